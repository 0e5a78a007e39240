defmodule DSPexWorker.ContractTest do
  @moduledoc "The golden files that the Python tests read too: what this client writes and reads is what they say."

  use ExUnit.Case, async: true

  alias DSPexWorker.{Client, Error, FakeBroker, Result}
  alias DSPexWorker.Signature.Definition

  @folder Path.expand("../../../../tests/contract", __DIR__)
  # No messages: the corpus of values has its own test, the statuses have one below.
  @others ["values.json", "result_statuses.json"]
  @golden for path <- Path.wildcard(@folder <> "/*.json"), Path.basename(path) not in @others, do: path

  for path <- @golden do
    @external_resource path
    @name Path.basename(path, ".json")

    test "#{@name}: the request is written, and the reply read, as the file says" do
      golden = read(@name)
      {answer, message} = play(golden, &calls(@name, &1, golden["request"]["properties"]["message_id"]))

      assert written(FakeBroker.decode(message)) == written(with_command(golden))
      assert message.queue == golden["queue"]
      assert_properties(message, golden["request"])
      expect(@name, answer)
    end
  end

  test "every command of the golden files can be sent as it stands" do
    for path <- @golden, golden = path |> Path.basename(".json") |> read() do
      body = with_command(golden)
      send_as_it_stands = &DSPexWorker.call(&1, body["command"], pairs(body["args"] || %{}))
      {answer, message} = play(golden, send_as_it_stands)
      reply = golden["reply"]["body"]

      assert FakeBroker.decode(message) == %{"command" => body["command"], "args" => pairs(body["args"] || %{})}
      assert elem(answer, 0) == if(reply["success"], do: :ok, else: :error)
      if reply["success"], do: assert(answer == {:ok, reply["result"]})
    end
  end

  test "every code of the golden files is a code of this client, read in full" do
    for path <- @golden, %{"success" => false} = reply <- [read(Path.basename(path, ".json"))["reply"]["body"]] do
      detail = reply["error_detail"]
      error = Error.from_reply(reply)

      assert Atom.to_string(error.code) == detail["code"]
      assert error.message == reply["error"]
      assert error.recoverable == detail["recoverable"]
      assert error.retry_after == detail["retry_after"]
      assert error.attempts == detail["attempts"]
      assert Enum.map(error.problems, & &1.path) == Enum.map(detail["problems"], & &1["path"])
    end
  end

  @external_resource @folder <> "/result_statuses.json"

  test "every status that the workers give for a kept result has a return of its own" do
    returns =
      for status <- read("result_statuses"), into: %{} do
        reply = if status == "done", do: FakeBroker.result(%{"label" => "good"})
        {status, status |> play_result(reply) |> brief()}
      end

    assert returns == %{
             "done" => {:ok, %{"label" => "good"}},
             "running" => {:pending, :running},
             "waiting" => {:pending, :waiting},
             "cancelled" => {:error, :cancelled},
             "unknown" => {:pending, :unknown}
           }
  end

  test "a status that this client does not know is an error, not something to wait for" do
    assert {:error, %Error{code: :invalid_reply, message: message}} = play_result("paused", nil)

    assert message =~ ~s("paused")
  end

  defp brief({:error, error}), do: {:error, error.code}
  defp brief(answer), do: answer

  defp play_result(status, reply) do
    result = %{"message_id" => "order-17", "status" => status, "reply" => reply}
    golden = %{"reply" => %{"body" => %{"success" => true, "result" => result}}}
    {answer, _message} = play(golden, &DSPexWorker.get_result(&1, "order-17"))
    answer
  end

  # What an application writes to have such a request sent.

  defp calls("create_program", client, id) do
    signature = "text -> sentiment: string, confidence: probability"
    DSPexWorker.create_program(client, signature, id: "sentiment", message_id: id)
  end

  defp calls("execute_program", client, id) do
    DSPexWorker.execute(client, "sentiment", %{text: "I love it"}, message_id: id, full: true)
  end

  defp calls("execute_signature", client, id) do
    signature = %{
      inputs: [%{name: "text", type: :string}],
      outputs: [%{name: "sentiment", type: :string, constraints: [enum: ~w(positive negative neutral)]}]
    }

    DSPexWorker.predict(client, signature, [text: "I love it", mood: "good"], message_id: id)
  end

  defp calls("fallback", client, id) do
    DSPexWorker.predict(client, "text -> label: strng", %{text: "I love it"},
      fallback: :create,
      message_id: id,
      full: true
    )
  end

  defp calls("lm_rate_limited", client, id) do
    DSPexWorker.execute(client, "sentiment", %{text: "I love it"}, lm: :fast, max_lm_calls: 2, message_id: id)
  end

  defp calls("invalid_inputs", client, id), do: DSPexWorker.execute(client, "sentiment", %{}, message_id: id)
  defp calls("get_result", client, id), do: DSPexWorker.get_result(client, "order-17", message_id: id)

  defp calls("delete_program", client, id) do
    DSPexWorker.call(client, "delete_program", %{program_id: "sentiment"}, message_id: id)
  end

  defp calls("unknown_command", client, id), do: DSPexWorker.call(client, "fly", %{}, message_id: id)

  # What the application gets.

  defp expect("create_program", answer) do
    assert {:ok, program} = answer
    assert {program.id, program.version} == {"sentiment", 1}
    assert program.fingerprint == "9adbbc6835afce3b56c8c9fea7117ebaeb94b6cc218a0fab484388bb52680664"
  end

  defp expect("execute_program", answer) do
    assert {:ok, %Result{} = result} = answer
    assert result.outputs == %{"sentiment" => "amber", "confidence" => 0.56}
    assert result.usage == %{lm_calls: 1, prompt_tokens: 0, completion_tokens: 0, cost_usd: nil}
    assert {result.attempts, result.dynamic, result.fallback_used, result.program_version} == {1, true, false, 1}
  end

  defp expect("execute_signature", answer), do: assert(answer == {:ok, %{"sentiment" => "neutral"}})

  defp expect("fallback", answer) do
    assert {:ok, %Result{outputs: %{"answer" => "grove"}, fallback_used: true, dynamic: false} = result} = answer
    assert result.fallback_reason =~ "unknown_type: "
    assert [%{"code" => "unknown_type"}, _offline] = result.warnings
  end

  defp expect("lm_rate_limited", answer) do
    assert {:error, %Error{code: :lm_rate_limited, recoverable: true, retry_after: 20_000, attempts: 7}} = answer
  end

  defp expect("invalid_inputs", answer) do
    assert {:error, %Error{code: :invalid_inputs, field: "text", recoverable: false} = error} = answer
    assert error.message == "Missing required field: text"
    assert error.problems == [%{path: "/inputs/text", problem: "missing"}]
  end

  defp expect("get_result", answer), do: assert(answer == {:pending, :unknown})

  defp expect("delete_program", answer) do
    assert answer == {:ok, %{"program_id" => "sentiment", "status" => "deleted"}}
  end

  defp expect("unknown_command", answer) do
    assert {:error, %Error{code: :unknown_command, message: "Unknown command: fly"}} = answer
  end

  # One call, and the reply of the file to it.

  defp play(golden, call) do
    broker = start_supervised!({FakeBroker, self()}, id: make_ref())
    options = [url: FakeBroker.url(broker), transport: FakeBroker]
    client = start_supervised!(Supervisor.child_spec({Client, options}, id: make_ref()))
    task = Task.async(fn -> call.(client) end)
    assert_receive {:published, message}
    FakeBroker.reply(broker, message, golden["reply"]["body"])
    {Task.await(task), message}
  end

  defp read(name) do
    {:ok, golden} = @folder |> Path.join(name <> ".json") |> File.read!() |> DSPexWorker.JSON.default().decode()
    golden
  end

  # The queue names the command where the request does not.
  defp with_command(%{"request" => %{"body" => body}, "command" => command}), do: Map.put_new(body, "command", command)

  # Requests that mean the same become equal: a keyword list is an object, nothing said is the default of our clients,
  # and a signature is its fields.
  defp written(body) do
    args = pairs(body["args"] || %{})
    options = pairs(args["options"] || %{})
    definition = args["signature"] && fields(args["signature"])

    args
    |> Map.merge(%{"options" => Map.delete(options, "fallback"), "signature" => definition})
    |> Map.put("fallback", args["fallback"] || options["fallback"] || "never")
    |> Map.put_new("inputs", %{})
    |> then(&%{"command" => body["command"], "args" => &1})
  end

  defp fields(signature) do
    case Definition.of(signature) do
      {:ok, definition} -> {definition.inputs, definition.outputs}
      {:error, _refused} -> signature
    end
  end

  defp pairs(list) when is_list(list), do: Map.new(list, fn [key, value] -> {key, value} end)
  defp pairs(object), do: object

  defp assert_properties(message, request) do
    assert message.reply_to == request["properties"]["reply_to"]
    assert message.message_id == request["properties"]["message_id"]
    assert is_binary(message.correlation_id)
    # What was left until the deadline goes along with it.
    headers = Map.put_new(request["headers"], "x-dspex-timeout", 60_000)
    assert Enum.map(message.headers, &elem(&1, 0)) == Map.keys(headers)
    assert is_integer(message.timestamp)
  end
end
