defmodule DSPexWorkerTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.{Await, Client, Error, FakeBroker, Program, Result}
  alias DSPexWorker.Signature.Definition
  alias DSPexWorker.TestSignatures.{Question, Sentiment}

  @inputs %{text: "I love it"}
  @outputs %{"sentiment" => "positive", "confidence" => 0.93}

  setup do
    {:ok, broker: start_supervised!({FakeBroker, self()})}
  end

  defp start_client(broker, options \\ []) do
    defaults = [url: FakeBroker.url(broker), transport: FakeBroker]
    start_supervised!({Client, Keyword.merge(defaults, options)})
  end

  defp start_answering(broker, reply, options \\ []) do
    FakeBroker.answer_with(broker, fn _message -> FakeBroker.encode(reply) end)
    start_client(broker, options)
  end

  # Purged first, so that no warning of a module defined twice is printed.
  defp load_signature(limit) do
    :code.purge(__MODULE__.Reloaded)
    :code.delete(__MODULE__.Reloaded)

    quoted =
      quote do
        use DSPexWorker.Signature

        signature do
          input :text, :string, min_length: unquote(limit)
          output :label
        end
      end

    {:module, module, _code, _result} = Module.create(__MODULE__.Reloaded, quoted, Macro.Env.location(__ENV__))
    module
  end

  defp sent do
    assert_receive {:published, message}
    FakeBroker.decode(message)
  end

  describe "predict/4" do
    test "sends the signature with `fallback: never`, and returns outputs with its own keys", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))

      assert DSPexWorker.predict(client, Sentiment, @inputs) == {:ok, %{sentiment: "positive", confidence: 0.93}}
      assert %{"command" => "execute_program", "args" => args} = sent()
      assert %{"fallback" => "never", "inputs" => %{"text" => "I love it"}, "signature" => signature} = args
      assert %{"description" => "Detects the sentiment of a text", "inputs" => [%{"name" => "text"}]} = signature
      assert args["options"] in [%{}, []]
    end

    test "sends what a signature module says now, also after it was loaded again", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(%{"label" => "a"}))

      for limit <- [1, 2, 2] do
        module = load_signature(limit)
        assert DSPexWorker.predict(client, module, text: "aa") == {:ok, %{label: "a"}}
        assert %{"args" => %{"signature" => %{"inputs" => [text]}}} = sent()
        assert text["constraints"] == %{"min_length" => limit}
      end
    end

    test "sends a definition that only names a signature module as it stands", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))
      {:ok, own} = Definition.of(Sentiment)

      for definition <- [own, %{own | description: "Another one"}, own] do
        assert {:ok, %{sentiment: "positive"}} = DSPexWorker.predict(client, definition, @inputs)
        assert sent()["args"]["signature"]["description"] == definition.description
      end
    end

    test "takes keyword lists, string keys, and string signatures, whose results have string keys", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))

      assert {:ok, %{sentiment: "positive"}} = DSPexWorker.predict(client, Sentiment, text: "a")
      assert {:ok, %{sentiment: "positive"}} = DSPexWorker.predict(client, Sentiment, %{"text" => "a"})

      assert DSPexWorker.predict(client, "text -> sentiment, confidence: float", text: "a") == {:ok, @outputs}
    end

    test "sends inputs that the signature does not have, for the worker to warn of", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))

      assert {:ok, _outputs} = DSPexWorker.predict(client, Sentiment, %{:text => "a", :langauge => :en, "more" => [1]})
      assert %{"args" => %{"inputs" => inputs}} = sent()
      assert inputs == %{"text" => "a", "langauge" => "en", "more" => [1]}

      # Another spelling of the same name is no other input.
      assert {:ok, _outputs} = DSPexWorker.predict(client, "größe -> sentiment", %{"gro\u0308ße" => "1"})
      assert %{"args" => %{"inputs" => %{"größe" => "1"} = inputs}} = sent()
      assert map_size(inputs) == 1
    end

    test "returns members of nested objects under the keys that they were declared with", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(%{"lines" => [%{"text" => "a", "amount" => 1}]}))

      for {properties, line} <- [
            {[text: :string, amount: :float], %{text: "a", amount: 1.0}},
            {%{"text" => :string, "amount" => :float}, %{"text" => "a", "amount" => 1.0}}
          ] do
        signature = %{inputs: [scan: :string], outputs: [lines: {:list, {:object, properties: properties}}]}
        assert DSPexWorker.predict(client, signature, scan: "a") == {:ok, %{lines: [line]}}
      end
    end

    test "sends question and answer as the text that the workers know it by", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(%{"answer" => "42"}, %{"is_dynamic" => false}))

      for text <- ["question -> answer", "question->answer"] do
        assert DSPexWorker.predict(client, text, question: "?") == {:ok, %{"answer" => "42"}}
        assert %{"args" => %{"signature" => ^text, "fallback" => "never", "inputs" => %{"question" => "?"}}} = sent()
      end

      assert {:error, %Error{code: :invalid_inputs}} = DSPexWorker.predict(client, "question -> answer", text: "?")
      assert {:ok, _answer} = DSPexWorker.predict(client, "question -> answer: string", question: "?")
      assert %{"args" => %{"signature" => %{"inputs" => [_question]}}} = sent()
    end

    test "puts each option where the contract has it", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))

      {:ok, _outputs} =
        DSPexWorker.predict(client, Sentiment, @inputs,
          lm: :fast,
          program_type: :chain_of_thought,
          config: [max_tokens: 9],
          temperature: 0.2,
          max_cost_usd: 0.01,
          options: %{cache: true}
        )

      assert %{"args" => args} = sent()
      assert %{"lm" => "fast", "program_type" => "chain_of_thought", "config" => %{"max_tokens" => 9}} = args
      assert args["options"] == %{"temperature" => 0.2, "max_cost_usd" => 0.01, "cache" => true}
    end

    test "sends nothing where inputs are wrong", %{broker: broker} do
      client = start_client(broker)

      assert {:error, %Error{code: :invalid_inputs, field: "text", message: "Missing required field: text"}} =
               DSPexWorker.predict(client, Sentiment, %{})

      assert {:error, %Error{code: :invalid_inputs, problems: [%{path: "/inputs/text"}]}} =
               DSPexWorker.predict(client, Sentiment, %{text: 7})

      assert {:error, %Error{code: :invalid_inputs, problems: [%{path: "/inputs/text/0"}]}} =
               DSPexWorker.predict(client, Sentiment, %{text: [self()]})

      refute_received {:published, _message}
    end

    test "sends nothing where the signature is wrong", %{broker: broker} do
      client = start_client(broker)

      assert {:error, %Error{code: :unknown_type}} = DSPexWorker.predict(client, "text -> label: strng", @inputs)
      refute_received {:published, _message}
    end

    test "refuses outputs that are not what was declared", %{broker: broker} do
      for outputs <- [%{"sentiment" => "amber", "confidence" => 0.5}, %{"sentiment" => "neutral"}, %{}] do
        client = start_answering(broker, FakeBroker.result(outputs))

        assert {:error, %Error{code: :invalid_reply, details: %{outputs: ^outputs}}} =
                 DSPexWorker.predict(client, Sentiment, @inputs)

        stop_supervised!(Client)
      end
    end

    test "with `full: true` tells usage, warnings and the rest", %{broker: broker} do
      usage = %{"lm_calls" => 2, "prompt_tokens" => 180, "completion_tokens" => 24, "cost_usd" => nil}

      client =
        start_answering(broker, FakeBroker.result(@outputs, %{"usage" => usage, "warnings" => ["w"], "attempts" => 2}))

      assert {:ok, %Result{} = result} =
               DSPexWorker.predict(client, Sentiment, @inputs, full: true, message_id: "order-1")

      assert result.outputs == %{sentiment: "positive", confidence: 0.93}
      assert result.usage == %{lm_calls: 2, prompt_tokens: 180, completion_tokens: 24, cost_usd: nil}
      assert {result.warnings, result.attempts, result.message_id} == {["w"], 2, "order-1"}
      assert {result.dynamic, result.fallback_used} == {true, false}
    end

    test "returns the chain of thought beside the declared outputs", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(Map.put(@outputs, "_reasoning", "because")))

      assert {:ok, %{_reasoning: "because", sentiment: "positive"}} =
               DSPexWorker.predict(client, Sentiment, @inputs, include_reasoning: true)
    end

    test "raises with a bang", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))

      assert DSPexWorker.predict!(client, Sentiment, @inputs).sentiment == "positive"
      assert_raise Error, ~r/^invalid_inputs: /, fn -> DSPexWorker.predict!(client, Sentiment, %{}) end
    end
  end

  describe "a fallback to question and answer" do
    @fallback FakeBroker.result(%{"answer" => "It is good"}, %{
                "fallback_used" => true,
                "is_dynamic" => false,
                "fallback_reason" => "output_invalid: no"
              })

    test "that was not asked for is an error with the answer in it", %{broker: broker} do
      client = start_answering(broker, @fallback)

      assert {:error, %Error{code: :fallback, details: %{answer: "It is good", reason: "output_invalid: no"}}} =
               DSPexWorker.predict(client, Sentiment, @inputs)
    end

    test "that was asked for is a result", %{broker: broker} do
      client = start_answering(broker, @fallback)

      assert DSPexWorker.predict(client, Sentiment, @inputs, fallback: :execute) == {:ok, %{answer: "It is good"}}
      assert %{"args" => %{"fallback" => "execute"}} = sent()

      assert {:ok, %Result{fallback_used: true, dynamic: false, fallback_reason: "output_invalid: no"}} =
               DSPexWorker.predict(client, Sentiment, @inputs, fallback: :execute, full: true)
    end

    test "may be the client's rule", %{broker: broker} do
      client = start_answering(broker, @fallback, fallback: :create)

      assert {:ok, %{answer: _text}} = DSPexWorker.predict(client, Sentiment, @inputs)
      assert {:error, %Error{code: :fallback}} = DSPexWorker.predict(client, Sentiment, @inputs, fallback: :never)
    end

    test "for want of dynamic signatures is told from a declared answer", %{broker: broker} do
      legacy = FakeBroker.result(%{"answer" => "Yes"}, %{"is_dynamic" => false})
      client = start_answering(broker, legacy)

      assert {:error, %Error{code: :fallback}} = DSPexWorker.predict(client, Sentiment, @inputs)
      assert {:ok, %{answer: "Yes"}} = DSPexWorker.predict(client, Sentiment, @inputs, use_dynamic_signature: false)
      assert {:ok, %{answer: "Yes"}} = DSPexWorker.predict(client, Question, question: "Is it?")
    end

    test "leaves a definition that cannot be read here to the worker, where it is asked for", %{broker: broker} do
      client = start_answering(broker, @fallback)
      signature = "text -> label: strng"

      assert DSPexWorker.predict(client, signature, @inputs, fallback: :create) == {:ok, %{"answer" => "It is good"}}
      assert %{"args" => %{"signature" => ^signature, "inputs" => %{"text" => "I love it"}}} = sent()
    end
  end

  describe "create_program/3 and execute/4" do
    @created %{"success" => true, "result" => %{"program_id" => "sig-1", "program_version" => 1, "warnings" => []}}

    test "send question and answer as text too", %{broker: broker} do
      client = start_answering(broker, @created)

      assert {:ok, %Program{signature: %{outputs: [%{key: "answer"}]}}} =
               DSPexWorker.create_program(client, "question -> answer")

      assert %{"args" => %{"signature" => "question -> answer", "fallback" => "never"}} = sent()
    end

    test "keep the signature's keys from one to the other", %{broker: broker} do
      client = start_client(broker)

      FakeBroker.answer_with(broker, fn message ->
        case FakeBroker.decode(message) do
          %{"command" => "create_program"} -> FakeBroker.encode(@created)
          %{"command" => "execute_program"} -> FakeBroker.encode(FakeBroker.result(@outputs))
        end
      end)

      assert {:ok, %Program{id: "sig-1", version: 1} = program} = DSPexWorker.create_program(client, Sentiment)
      assert %{"command" => "create_program", "args" => %{"fallback" => "never"} = args} = sent()
      refute is_map_key(args, "id")

      assert {:ok, %{sentiment: "positive"}} = DSPexWorker.execute(client, program, @inputs)
      assert %{"args" => %{"program_id" => "sig-1", "options" => %{"fallback" => "never"}}} = sent()
      assert {:error, %Error{code: :invalid_inputs}} = DSPexWorker.execute(client, program, %{})
      assert {:ok, @outputs} = DSPexWorker.execute(client, "sig-1", @inputs)

      assert {:ok, %{sentiment: "positive"}} =
               DSPexWorker.execute(client, "sig-1", @inputs, signature: Sentiment, temperature: 0.5, lm: "fast")

      sent()
      assert %{"args" => %{"options" => %{"temperature" => 0.5, "lm" => "fast"}}} = sent()
    end

    test "are told apart from what runs a signature", %{broker: broker} do
      client = start_client(broker)

      for target <- [Sentiment, %{inputs: []}, nil] do
        assert_raise ArgumentError, ~r/predict\/4/, fn -> DSPexWorker.execute(client, target, @inputs) end
      end
    end

    test "a program that may fall back does so when it is run", %{broker: broker} do
      client = start_answering(broker, @created)
      {:ok, program} = DSPexWorker.create_program(client, Sentiment, fallback: :create, id: "a", replace: true)
      assert %{"args" => %{"fallback" => "create", "id" => "a", "replace" => true}} = sent()

      FakeBroker.answer_with(broker, fn _message -> FakeBroker.encode(@fallback) end)
      assert DSPexWorker.execute(client, program, @inputs) == {:ok, %{answer: "It is good"}}
      assert %{"args" => %{"options" => %{"fallback" => "create"}}} = sent()
    end
  end

  describe "execute_many/4" do
    test "returns outcomes in the order of the inputs, errors included", %{broker: broker} do
      client = start_client(broker)

      FakeBroker.answer_with(broker, fn message ->
        text = FakeBroker.decode(message)["args"]["inputs"]["text"]
        FakeBroker.encode(FakeBroker.result(%{"sentiment" => text, "confidence" => 1.0}))
      end)

      inputs = for text <- ~w(positive negative) ++ [""], do: %{text: text}

      assert [{:ok, %{sentiment: "positive"}}, {:ok, %{sentiment: "negative"}}, {:error, %Error{}}] =
               client |> DSPexWorker.execute_many(Sentiment, inputs) |> Enum.to_list()

      assert_raise Error, fn -> client |> DSPexWorker.execute_many!(Sentiment, inputs) |> Enum.to_list() end
    end

    test "refuses options that do not exist before anything is run", %{broker: broker} do
      client = start_client(broker)

      for {target, option} <- [{Sentiment, :signature}, {"sentiment", :demos}, {"text -> label", :temprature}] do
        assert_raise ArgumentError, fn -> DSPexWorker.execute_many(client, target, [], [{option, nil}]) end
      end
    end

    test "raises for arguments that mean nothing, in the process that calls", %{broker: broker} do
      client = start_client(broker)

      for options <- [
            [message_id: "order-1"],
            [timeout: -1],
            [max_concurrency: 0],
            [max_concurrency: :many],
            [ordered: :no]
          ] do
        assert_raise ArgumentError, fn -> DSPexWorker.execute_many(client, Sentiment, [%{text: "a"}], options) end
      end

      refute_received {:published, _message}
    end

    test "raises what a call raises where its results are taken, and leaves no other behind", %{broker: broker} do
      client = start_client(broker)

      for ordered? <- [true, false] do
        many = DSPexWorker.execute_many(client, Sentiment, ["no inputs", %{text: "a"}], ordered: ordered?)
        assert_raise ArgumentError, ~r/inputs must be a map/, fn -> Enum.to_list(many) end
        assert await_idle(client).in_flight == 0
      end
    end

    test "leaves no call behind where the stream is left early", %{broker: broker} do
      client = start_client(broker)

      for ordered? <- [true, false] do
        inputs = for number <- 1..10, do: %{text: "#{number}"}

        many =
          Task.async(fn ->
            client |> DSPexWorker.execute_many("echo", inputs, max_concurrency: 5, ordered: ordered?) |> Enum.take(1)
          end)

        messages = for _call <- 1..5, do: assert_receive({:published, _message}) |> elem(1)
        first = Enum.find(messages, &(echo(&1) =~ ~s("1")))
        FakeBroker.reply(broker, first, echo(first))
        assert [first] = Task.await(many)
        assert first == if(ordered?, do: {:ok, hd_outputs()}, else: {row(0, hd(inputs)), {:ok, hd_outputs()}})
        assert await_idle(client).in_flight == 0
        flush_published(broker)
      end
    end

    defp hd_outputs, do: %{"text" => "1"}
    defp row(index, inputs), do: %{index: index, key: index, inputs: inputs}

    defp await_idle(client), do: Await.status(client, &(&1.in_flight == 0))

    defp flush_published(broker) do
      # What was published before is told by then.
      :sys.get_state(broker)

      receive do
        {:published, _message} -> flush_published(broker)
      after
        0 -> :ok
      end
    end

    test "takes no more inputs than are wanted", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))
      test = self()

      inputs =
        Stream.resource(
          fn -> 0 end,
          fn number ->
            send(test, {:taken, number})
            {[%{text: "text #{number}"}], number + 1}
          end,
          fn _number -> :ok end
        )

      assert [{:ok, _a}, {:ok, _b}] =
               client |> DSPexWorker.execute_many(Sentiment, inputs, max_concurrency: 2) |> Enum.take(2)

      assert_received {:taken, 3}
      refute_received {:taken, 4}
    end

    test "holds no more results than calls may be under way while the first is slow", %{broker: broker} do
      client = start_client(broker)
      inputs = for number <- 1..50, do: %{text: "#{number}"}

      many =
        Task.async(fn ->
          client |> DSPexWorker.execute_many("echo", inputs, max_concurrency: 3) |> Enum.map(&elem(&1, 1)["text"])
        end)

      messages = for _call <- 1..3, do: assert_receive({:published, _message}) |> elem(1)
      {[slow], quick} = Enum.split_with(messages, &(echo(&1) =~ ~s("1")))
      for message <- quick, do: FakeBroker.reply(broker, message, echo(message))
      assert Client.status(client).in_flight == 1
      refute_received {:published, _message}

      FakeBroker.answer_with(broker, &echo/1)
      FakeBroker.reply(broker, slow, echo(slow))
      assert Task.await(many) == Enum.map(inputs, & &1.text)
    end

    defp echo(message), do: FakeBroker.encode(FakeBroker.result(FakeBroker.decode(message)["args"]["inputs"]))

    test "gives each input a message id of its own, and takes programs", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))
      inputs = [%{text: "a"}, %{text: "b"}]

      for target <- ["sentiment", %Program{id: "sentiment"}] do
        many = DSPexWorker.execute_many(client, target, inputs, message_id: &"id-#{&1.text}")
        assert [{:ok, @outputs}, {:ok, @outputs}] = Enum.to_list(many)
        assert_receive {:published, %{message_id: "id-a"}}
        assert_receive {:published, %{message_id: "id-b"}}
      end
    end

    test "says which row each outcome is of where they come as they are there", %{broker: broker} do
      client = start_client(broker)
      rows = [%{text: "1"}, {"review-17", %{text: "2"}}, {:last, [text: ""]}]

      many =
        Task.async(fn ->
          client |> DSPexWorker.execute_many(Sentiment, rows, ordered: false) |> Enum.to_list()
        end)

      messages = for _call <- 1..2, do: assert_receive({:published, _message}) |> elem(1)
      [first, second] = Enum.sort_by(messages, & &1.body)
      # The first row's reply is the last to come.
      FakeBroker.reply(broker, second, FakeBroker.result(%{"sentiment" => "negative", "confidence" => 1}))
      assert Client.status(client).in_flight == 1
      FakeBroker.reply(broker, first, FakeBroker.result(%{"sentiment" => "positive", "confidence" => 1}))
      outcomes = Map.new(Task.await(many), fn {row, outcome} -> {row.index, {row, outcome}} end)

      assert {%{key: 0, inputs: %{text: "1"}}, {:ok, %{sentiment: "positive"}}} = outcomes[0]
      assert {%{key: "review-17", inputs: %{text: "2"}}, {:ok, %{sentiment: "negative"}}} = outcomes[1]
      assert {%{key: :last, inputs: [text: ""]}, {:error, %Error{code: :invalid_inputs}}} = outcomes[2]
      assert map_size(outcomes) == 3
    end

    test "keeps the rows of its results with a `!` too, and makes ids of their keys", %{broker: broker} do
      client = start_answering(broker, FakeBroker.result(@outputs))
      rows = [{17, %{text: "a"}}]
      options = [ordered: false, message_id: fn %{text: text}, key -> "review-#{key}-#{text}" end]

      assert [{%{index: 0, key: 17, inputs: %{text: "a"}}, %{sentiment: "positive"}}] =
               client |> DSPexWorker.execute_many!(Sentiment, rows, options) |> Enum.to_list()

      assert_receive {:published, %{message_id: "review-17-a"}}
    end

    test "gives each row its time-out from when it is sent", %{broker: broker} do
      client = start_client(broker)
      inputs = for number <- 1..3, do: %{text: "#{number}"}

      many =
        Task.async(fn ->
          client |> DSPexWorker.execute_many("echo", inputs, max_concurrency: 1, timeout: 60_000) |> Enum.to_list()
        end)

      for _row <- inputs do
        before = System.system_time(:millisecond)
        assert_receive {:published, message}
        # Nothing of it was used up by the rows before.
        assert [{"x-dspex-deadline", :long, deadline}, {"x-dspex-timeout", :long, _left}] = message.headers
        assert deadline >= before + 60_000 - 1_000
        FakeBroker.reply(broker, message, echo(message))
      end

      assert [{:ok, %{"text" => "1"}}, {:ok, %{"text" => "2"}}, {:ok, %{"text" => "3"}}] = Task.await(many)
    end
  end

  describe "cancel/3 and get_result/3" do
    test "name their job and tell its state", %{broker: broker} do
      client = start_answering(broker, %{"success" => true, "result" => %{"status" => "too_late"}})
      assert DSPexWorker.cancel(client, "order-1") == {:ok, :too_late}
      assert %{"command" => "cancel", "args" => %{"message_id" => "order-1"}} = sent()
      stop_supervised!(Client)

      for {status, expected} <- [{"running", :running}, {"waiting", :waiting}, {"unknown", :unknown}] do
        client = start_answering(broker, %{"success" => true, "result" => %{"status" => status, "reply" => nil}})
        assert DSPexWorker.get_result(client, "order-1") == {:pending, expected}
        assert DSPexWorker.get_result!(client, "order-1") == nil
        stop_supervised!(Client)
      end
    end

    test "return what the job was answered", %{broker: broker} do
      kept = %{"status" => "done", "reply" => FakeBroker.result(@outputs)}
      client = start_answering(broker, %{"success" => true, "result" => kept})

      assert DSPexWorker.get_result(client, "order-1") == {:ok, @outputs}

      assert DSPexWorker.get_result(client, "order-1", signature: Sentiment) ==
               {:ok, %{sentiment: "positive", confidence: 0.93}}

      stop_supervised!(Client)

      failed = %{"success" => false, "error" => "x", "error_detail" => %{"code" => "output_invalid"}}
      client = start_answering(broker, %{"success" => true, "result" => %{"status" => "done", "reply" => failed}})

      assert {:error, %Error{code: :output_invalid}} = DSPexWorker.get_result(client, "order-1")
    end
  end
end
