defmodule DSPexWorker.Client.Confirms do
  @moduledoc false

  # Which publish of a link has which sequence number, and which of them the broker has not confirmed. Each number is
  # visited once, so a confirm costs O(1) on average, "multiple" included.

  defstruct next: 1, oldest: 1, waiting: %{}

  @type t :: %__MODULE__{next: pos_integer, oldest: pos_integer, waiting: %{optional(pos_integer) => String.t()}}

  @spec add(t, String.t()) :: t
  def add(%__MODULE__{next: next} = confirms, id) do
    %{confirms | next: next + 1, waiting: Map.put(confirms.waiting, next, id)}
  end

  @doc "Takes out what a confirm, or a refusal, is about."
  @spec take(t, pos_integer, boolean) :: {[String.t()], t}
  def take(%__MODULE__{} = confirms, seqno, false) do
    {id, waiting} = Map.pop(confirms.waiting, seqno)
    {List.wrap(id), advance(%{confirms | waiting: waiting})}
  end

  def take(%__MODULE__{oldest: oldest} = confirms, seqno, true) do
    upto = min(seqno, confirms.next - 1)
    {ids, waiting} = pop(confirms.waiting, oldest, upto, [])
    {ids, %{confirms | waiting: waiting, oldest: max(oldest, upto + 1)}}
  end

  @spec unconfirmed(t) :: [String.t()]
  def unconfirmed(%__MODULE__{waiting: waiting}), do: Map.values(waiting)

  defp pop(waiting, from, upto, ids) when from > upto, do: {ids, waiting}

  defp pop(waiting, from, upto, ids) do
    case Map.pop(waiting, from) do
      {nil, waiting} -> pop(waiting, from + 1, upto, ids)
      {id, waiting} -> pop(waiting, from + 1, upto, [id | ids])
    end
  end

  defp advance(%{oldest: oldest, next: next, waiting: waiting} = confirms)
       when oldest < next and not is_map_key(waiting, oldest),
       do: advance(%{confirms | oldest: oldest + 1})

  defp advance(confirms), do: confirms
end
