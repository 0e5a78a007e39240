defmodule DSPexWorker.JSONTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.JSON

  doctest JSON

  # One of the others is always there, and Jason, as what users have, or as its stand-in.
  @backends [JSON.Jason | Enum.filter([JSON.Native, JSON.Jsx], & &1.available?())]

  describe "plain/1" do
    test "turns dates and times of all four kinds into ISO 8601" do
      assert JSON.plain([~D[2026-01-31], ~T[12:30:00], ~N[2026-01-31 12:30:00], ~U[2026-01-31 12:30:00Z]]) ==
               {:ok, ["2026-01-31", "12:30:00", "2026-01-31T12:30:00", "2026-01-31T12:30:00Z"]}
    end

    test "keeps nil, booleans, numbers, and the fraction of floats" do
      assert {:ok, [nil, true, false, 1, plain]} = JSON.plain([nil, true, false, 1, 1.0])
      assert is_float(plain)
    end

    test "makes text of atoms, and objects of keyword lists, but not of other lists" do
      assert JSON.plain(a: :b) == {:ok, %{"a" => "b"}}
      assert JSON.plain([{"a", 1}]) == {:ok, [["a", 1]]}
      assert JSON.plain([]) == {:ok, []}
      assert JSON.plain(%{1 => "one"}) == {:ok, %{"1" => "one"}}
      assert JSON.plain(MapSet.new([1])) == {:ok, [1]}
    end

    test "names the place of what cannot be written" do
      assert {:error, {"/a/1/b~1c", "#Function" <> _}} = JSON.plain(%{a: [0, %{"b/c" => &is_nil/1}]}) |> function()
      assert {:error, {"/0", "is not UTF-8"}} = JSON.plain([<<255>>])
      assert {:error, {"/a", "a Range has no form in JSON" <> _}} = JSON.plain(%{a: 1..2})
      assert {:error, {"", "an improper list" <> _}} = JSON.plain([1 | 2])
      assert {:error, {"", "the key 1.5" <> _}} = JSON.plain(%{1.5 => 1})
    end

    test "refuses keys that become the same" do
      assert JSON.plain(a: 1, a: 2) == {:error, {"/a", "comes twice"}}
      assert JSON.plain(%{1 => 1, "1" => 2}) == {:error, {"/1", "comes twice"}}
    end

    defp function({:error, {path, problem}}), do: {:error, {path, String.replace_prefix(problem, "&", "#Function &")}}
  end

  for backend <- @backends do
    describe "#{inspect(backend)}" do
      @backend backend

      test "writes nil as null, and reads null as nil, at every depth" do
        assert {:ok, body} = @backend.encode(%{"a" => nil, "b" => [nil, %{"c" => nil}]})
        refute body =~ "nil"
        assert @backend.decode(body) == {:ok, %{"a" => nil, "b" => [nil, %{"c" => nil}]}}
      end

      test "keeps the texts that look like null" do
        plain = %{"a" => "nil", "b" => "null", "null" => "true"}
        assert {:ok, body} = @backend.encode(plain)
        assert @backend.decode(body) == {:ok, plain}
      end

      test "tells integers from floats both ways" do
        numbers = [0, 1, 1.0, -0.5, 1.0e22, 1.0e300, 5.0e-324, 123_456_789_012_345_678_901_234_567_890]
        assert {:ok, body} = @backend.encode(numbers)
        assert {:ok, read} = @backend.decode(body)
        assert read === numbers
        assert @backend.decode("[1.0,1]") == {:ok, [1.0, 1]}
      end

      test "keeps text as it is, whatever its characters" do
        text = "ä\u2028\0\"\\/ 😀 \u{10FFFF} \r\n\t"
        assert {:ok, body} = @backend.encode([text])
        assert @backend.decode(body) == {:ok, [text]}
      end

      test "tells empty objects from empty lists" do
        assert {:ok, body} = @backend.encode(%{"a" => %{}, "b" => []})
        assert @backend.decode(body) == {:ok, %{"a" => %{}, "b" => []}}
      end

      test "reads lists and objects inside each other, in their order" do
        assert {:ok, read} = @backend.decode(~s([{"a": [1, [2, {}], "b"], "c": {"d": [null, {"e": false}]}}, [], "f"]))
        assert read == [%{"a" => [1, [2, %{}], "b"], "c" => %{"d" => [nil, %{"e" => false}]}}, [], "f"]

        for {text, value} <- [{"null", nil}, {"\"null\"", "null"}, {"1", 1}],
            do: assert(@backend.decode(text) == {:ok, value})
      end

      test "returns an error for what is no JSON" do
        for body <- ["", "{", "nope", "[1,]", ~s({"a":}), "1 2", ~s([1), "[\"\\xff\"]", <<?", 255, ?">>],
            do: assert({:error, _reason} = @backend.decode(body))
      end

      test "makes no atoms of keys" do
        assert {:ok, %{"json_key_never_seen" => 1}} = @backend.decode(~s({"json_key_never_seen": 1}))
        assert_raise ArgumentError, fn -> String.to_existing_atom("json_key_never" <> "_seen") end
      end
    end
  end

  test "some library is found" do
    assert JSON.default().available?()
  end
end
