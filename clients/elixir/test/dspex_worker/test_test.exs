defmodule DSPexWorker.TestTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.{Client, Error, Result}
  alias DSPexWorker.Test, as: Stub
  alias DSPexWorker.TestSignatures.{Question, Sentiment}

  setup do
    {:ok, client: start_supervised!({Client, transport: DSPexWorker.Test})}
  end

  defp positive(_inputs), do: %{sentiment: "positive", confidence: 1}

  test "a stub gets checked inputs with the signature's keys, and its outputs are returned", %{client: client} do
    test = self()

    Stub.stub(Sentiment, fn inputs ->
      send(test, {:inputs, inputs})
      [sentiment: :positive, confidence: 1]
    end)

    assert DSPexWorker.predict(client, Sentiment, %{"text" => "I love it"}) ==
             {:ok, %{sentiment: "positive", confidence: 1.0}}

    assert_received {:inputs, %{text: "I love it"}}
    assert {:error, %Error{code: :invalid_inputs}} = DSPexWorker.predict(client, Sentiment, %{})
    refute_received {:inputs, _inputs}
  end

  test "a stub gets nested members under the keys that they were declared with", %{client: client} do
    signature = %{
      inputs: [lines: {:list, {:object, properties: [text: :string, count: {:integer, default: 1}]}}],
      outputs: [total: :integer]
    }

    Stub.stub(signature, fn %{lines: lines} -> %{total: lines |> Enum.map(& &1.count) |> Enum.sum()} end)

    assert DSPexWorker.predict(client, signature, lines: [[text: "a", count: 2], [text: "b"]]) == {:ok, %{total: 3}}
  end

  test "inputs that the signature does not have are dropped with the worker's warning", %{client: client} do
    warning = "Input `langauge` is not in the signature and was dropped"
    inputs = %{text: "a", langauge: "en"}

    Stub.stub(Sentiment, fn %{text: "a"} = taken when map_size(taken) == 1 -> positive(taken) end)
    assert {:ok, %Result{warnings: [^warning]}} = DSPexWorker.predict(client, Sentiment, inputs, full: true)
    assert {:ok, %Result{warnings: []}} = DSPexWorker.predict(client, Sentiment, %{text: "a"}, full: true)

    Stub.stub(Sentiment, fn _inputs -> %Result{outputs: positive(nil), warnings: ["w"]} end)
    assert {:ok, %Result{warnings: [^warning, "w"]}} = DSPexWorker.predict(client, Sentiment, inputs, full: true)

    Stub.stub("question -> answer", fn _inputs -> %{answer: "42"} end)

    assert {:ok, %Result{warnings: []}} =
             DSPexWorker.predict(client, "question -> answer", [question: "?", more: 1], full: true)
  end

  test "outputs that the signature does not declare raise", %{client: client} do
    for outputs <- [%{}, %{sentiment: "amber", confidence: 1}, %{sentiment: "neutral", confidence: 1, more: 1}, 7] do
      Stub.stub(Sentiment, fn _inputs -> outputs end)
      assert_raise ArgumentError, fn -> DSPexWorker.predict(client, Sentiment, %{text: "a"}) end
    end
  end

  test "a stub may fail, or tell more", %{client: client} do
    Stub.stub(Sentiment, fn
      %{text: "code"} -> {:error, :lm_unavailable}
      %{text: "error"} -> {:error, Error.new(:output_invalid, "no", attempts: 3)}
      %{text: "more"} -> %Result{outputs: positive(nil), warnings: ["w"], attempts: 2}
      %{text: "fallback"} -> %Result{outputs: %{answer: "good"}, fallback_used: true}
    end)

    predict = &DSPexWorker.predict(client, Sentiment, %{text: &1}, &2)

    assert {:error, %Error{code: :lm_unavailable, recoverable: true}} = predict.("code", [])
    assert {:error, %Error{code: :output_invalid, attempts: 3}} = predict.("error", [])
    assert {:ok, %Result{warnings: ["w"], attempts: 2}} = predict.("more", full: true)
    assert {:error, %Error{code: :fallback, details: %{answer: "good"}}} = predict.("fallback", [])
    assert {:ok, %{answer: "good"}} = predict.("fallback", fallback: :execute)
  end

  test "a stub that fails with a code that does not exist raises", %{client: client} do
    for code <- [:lm_timeoutt, "lm_timeout", {:error, 7}] do
      Stub.stub(Sentiment, fn _inputs -> {:error, code} end)
      assert_raise ArgumentError, ~r/is no code/, fn -> DSPexWorker.predict(client, Sentiment, %{text: "a"}) end
    end
  end

  test "a client with stubs is up", %{client: client} do
    assert Client.status(client) == %{connection: :up, in_flight: 0}
  end

  test "a stub is seen by the tasks of its owner, and by nobody else until it is allowed", %{client: client} do
    Stub.stub(Sentiment, &positive/1)
    inputs = [%{text: "a"}, %{text: "b"}]

    assert [{:ok, _a}, {:ok, _b}] = client |> DSPexWorker.execute_many(Sentiment, inputs) |> Enum.to_list()

    stranger = start_supervised!({Agent, fn -> nil end})
    ask = fn _state -> {predict_or_raise(client), nil} end
    assert Agent.get_and_update(stranger, ask) =~ "no stub for"
    assert Stub.allow(self(), stranger) == :ok
    assert {:ok, %{sentiment: "positive"}} = Agent.get_and_update(stranger, ask)
  end

  test "a stub ends with its owner", %{client: client} do
    owner = Task.async(fn -> Stub.stub(Question, fn _inputs -> %{answer: "a"} end, shared: true) end)
    monitor = Process.monitor(owner.pid)
    :ok = Task.await(owner)
    assert_receive {:DOWN, ^monitor, :process, _pid, _reason}

    assert_raise RuntimeError, ~r/no stub/, fn -> DSPexWorker.predict(client, Question, question: "?") end
  end

  test "programs answer as their signature does, also by id alone", %{client: client} do
    Stub.stub(Sentiment, &positive/1)
    {:ok, program} = DSPexWorker.create_program(client, Sentiment)

    assert {:ok, ^program} = DSPexWorker.create_program(client, Sentiment)
    assert {:ok, %{sentiment: "positive"}} = DSPexWorker.execute(client, program, %{text: "a"})
    assert {:ok, %{"sentiment" => "positive"}} = DSPexWorker.execute(client, program.id, %{text: "a"})
    assert {:error, %Error{code: :invalid_inputs, field: "text"}} = DSPexWorker.execute(client, program.id, %{})

    Stub.stub("another", fn %{"text" => text} -> %{echo: text} end)
    assert DSPexWorker.execute(client, "another", %{text: "a"}) == {:ok, %{"echo" => "a"}}
  end

  test "question and answer is stubbed under any of its spellings", %{client: client} do
    Stub.stub("question -> answer", fn %{"question" => _text} -> %{"answer" => "42"} end)

    assert DSPexWorker.predict(client, "question->answer", question: "?") == {:ok, %{"answer" => "42"}}

    assert {:ok, %Result{dynamic: false}} =
             DSPexWorker.predict(client, "question -> answer", [question: "?"], full: true)

    {:ok, program} = DSPexWorker.create_program(client, "question  ->  answer")
    assert program.raw["is_dynamic"] == false
    assert DSPexWorker.execute(client, program, question: "?") == {:ok, %{"answer" => "42"}}
  end

  test "commands have answers, or stubs of their own", %{client: client} do
    assert DSPexWorker.cancel(client, "m") == {:ok, :cancelled}
    assert DSPexWorker.get_result(client, "m") == {:pending, :unknown}
    assert_raise RuntimeError, ~r/no stub for the command "ping"/, fn -> DSPexWorker.call(client, "ping") end

    Stub.stub_command("ping", fn %{} -> %{status: :ok} end)
    assert DSPexWorker.call(client, "ping") == {:ok, %{"status" => "ok"}}
  end

  defp predict_or_raise(client) do
    DSPexWorker.predict(client, Sentiment, %{text: "a"})
  rescue
    error -> Exception.message(error)
  end
end
