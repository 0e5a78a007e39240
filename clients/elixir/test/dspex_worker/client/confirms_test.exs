defmodule DSPexWorker.Client.ConfirmsTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.Client.Confirms

  defp published(ids), do: Enum.reduce(ids, %Confirms{}, &Confirms.add(&2, &1))

  test "a confirm is about one publish, or about all up to it" do
    confirms = published(~w(a b c d e))

    assert {["b"], confirms} = Confirms.take(confirms, 2, false)
    assert {ids, confirms} = Confirms.take(confirms, 4, true)
    assert Enum.sort(ids) == ~w(a c d)
    assert Confirms.unconfirmed(confirms) == ["e"]
  end

  test "what is confirmed twice, or was never published, is about nothing" do
    confirms = published(~w(a b))

    assert {["a"], confirms} = Confirms.take(confirms, 1, false)
    assert {[], confirms} = Confirms.take(confirms, 1, false)
    assert {[], confirms} = Confirms.take(confirms, 9, false)
    assert {["b"], confirms} = Confirms.take(confirms, 9, true)
    assert Confirms.unconfirmed(Confirms.add(confirms, "c")) == ["c"]
    assert {["c"], _confirms} = Confirms.take(Confirms.add(confirms, "c"), 3, true)
  end
end
