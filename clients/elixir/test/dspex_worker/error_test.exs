defmodule DSPexWorker.ErrorTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.Error

  doctest Error

  @contract Path.expand("../../../../docs/WIRE.md", __DIR__)

  test "knows every code of the contract, and no other as a worker's" do
    [_before, codes] = @contract |> File.read!() |> String.split("\n## Error codes\n")
    documented = for [_all, code] <- Regex.scan(~r/^\| `([a-z_]+)` \|/m, codes), do: code

    assert documented != []
    assert [] = documented -- Enum.map(Error.codes(), &Atom.to_string/1)
    for code <- documented, do: refute(Error.from_reply(%{"error_detail" => %{"code" => code}}).code == :unknown)
  end

  test "makes no atom of a code that it does not know" do
    error = Error.from_reply(%{"error" => "New", "error_detail" => %{"code" => "never_seen_before_code"}})

    assert %Error{code: :unknown, message: "New", details: %{code: "never_seen_before_code"}} = error
    assert_raise ArgumentError, fn -> String.to_existing_atom("never_seen_before_" <> "code") end
  end

  test "reads a whole error_detail" do
    reply = %{
      "error" => "Field text: too long",
      "error_detail" => %{
        "code" => "lm_rate_limited",
        "recoverable" => true,
        "retry_after" => 1500,
        "field" => "text",
        "attempts" => 2,
        "problems" => [%{"path" => "/inputs/text", "problem" => "too long"}]
      }
    }

    assert Error.from_reply(reply) == %Error{
             code: :lm_rate_limited,
             message: "Field text: too long",
             recoverable: true,
             retry_after: 1500,
             field: "text",
             attempts: 2,
             problems: [%{path: "/inputs/text", problem: "too long"}],
             details: %{}
           }
  end

  test "survives an error_detail of any shape" do
    for detail <- [nil, "text", [], %{"problems" => "x", "attempts" => -1, "retry_after" => "soon", "code" => 7}] do
      assert %Error{code: :unknown, problems: [], attempts: 0, retry_after: nil} =
               Error.from_reply(%{"error_detail" => detail})
    end
  end

  test "is made with a code of the list only, and a mistyped one is told" do
    assert_raise ArgumentError, ~r/:lm_timeoutt is no code.*did you mean :lm_timeout\?.*codes/, fn ->
      Error.new(:lm_timeoutt, "x")
    end

    assert_raise ArgumentError, ~r/"timeout" is no code/, fn -> Error.new("timeout", "x") end
  end

  test "reads as code and message when raised" do
    assert Exception.message(Error.new(:no_worker, "No worker consumes a")) == "no_worker: No worker consumes a"
  end

  test "shows what it says, and not what it leaves unsaid; so does a result" do
    assert inspect(Error.new(:cancelled, "x")) ==
             ~s(%DSPexWorker.Error{code: :cancelled, message: "x", recoverable: false})

    assert inspect(Error.new(:cancelled, "x", generation: 2)) =~ "generation: 2"

    shown = inspect(%DSPexWorker.Result{outputs: %{label: "a"}, raw: %{"outputs" => %{"label" => "a"}}})
    assert shown =~ ~s(outputs: %{label: "a"})
    refute shown =~ "raw"
    refute shown =~ "generation"
  end
end
