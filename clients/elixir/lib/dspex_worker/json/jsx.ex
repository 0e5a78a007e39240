defmodule DSPexWorker.JSON.Jsx do
  @moduledoc """
  JSON with Erlang's `jsx`, which RabbitMQ 3.10 ships, and 4 no longer.

  `jsx` says `null` where Elixir says `nil`, and is told so here. It only reads: it would write `nil` as the text
  `"nil"`, and a plain value needs so little that writing it here is several times as fast.
  """

  @behaviour DSPexWorker.JSON

  @impl DSPexWorker.JSON
  def available?, do: Code.ensure_loaded?(:jsx)

  @impl DSPexWorker.JSON
  def encode(plain) do
    {:ok, value(plain, "")}
  rescue
    error -> {:error, error}
  end

  @impl DSPexWorker.JSON
  def decode(body) do
    {:ok, :jsx.decoder(__MODULE__, [], [:strict]).(body)}
  rescue
    error -> {:error, error}
  end

  # One binary is appended to throughout, which Erlang does in place.

  defp value(text, json) when is_binary(text), do: <<text(text, <<json::binary, ?">>)::binary, ?">>
  defp value(number, json) when is_integer(number), do: <<json::binary, Integer.to_string(number)::binary>>

  defp value(number, json) when is_float(number),
    do: <<json::binary, :erlang.float_to_binary(number, [:short])::binary>>

  defp value(nil, json), do: <<json::binary, "null">>
  defp value(true, json), do: <<json::binary, "true">>
  defp value(false, json), do: <<json::binary, "false">>
  defp value([], json), do: <<json::binary, "[]">>
  defp value([first | rest], json), do: items(rest, value(first, <<json::binary, ?[>>))
  defp value(map, json) when map_size(map) == 0, do: <<json::binary, "{}">>

  defp value(map, json) when is_map(map) do
    [{name, value} | rest] = :maps.to_list(map)
    members(rest, member(name, value, <<json::binary, ?{>>))
  end

  defp items([], json), do: <<json::binary, ?]>>
  defp items([item | rest], json), do: items(rest, value(item, <<json::binary, ?,>>))

  defp members([], json), do: <<json::binary, ?}>>
  defp members([{name, value} | rest], json), do: members(rest, member(name, value, <<json::binary, ?,>>))

  defp member(name, value, json), do: value(value, <<text(name, <<json::binary, ?">>)::binary, ?", ?:>>)

  # Copies what needs no escape in one piece.
  defp text(text, json), do: text(text, text, 0, json)

  defp text(<<byte, rest::binary>>, from, size, json) when byte >= 0x20 and byte != ?" and byte != ?\\ do
    text(rest, from, size + 1, json)
  end

  defp text(<<>>, from, _size, json), do: <<json::binary, from::binary>>

  defp text(<<byte, rest::binary>>, from, size, json) do
    text(rest, rest, 0, <<json::binary, binary_part(from, 0, size)::binary, escape(byte)::binary>>)
  end

  defp escape(?"), do: "\\\""
  defp escape(?\\), do: "\\\\"
  defp escape(control), do: "\\u00" <> Base.encode16(<<control>>)

  # What `jsx` calls while it reads, with what is open around the place, innermost first.

  @doc false
  @spec init(term) :: list
  def init(_none), do: []

  @doc false
  @spec handle_event(atom | tuple, term) :: term
  def handle_event({:key, name}, open), do: [{:key, name} | open]
  def handle_event(:start_object, open), do: [{:object, []} | open]
  def handle_event(:start_array, open), do: [{:array, []} | open]
  def handle_event(:end_object, [{:object, members} | open]), do: close(members |> :lists.reverse() |> Map.new(), open)
  def handle_event(:end_array, [{:array, items} | open]), do: close(:lists.reverse(items), open)
  def handle_event({:literal, :null}, open), do: close(nil, open)
  def handle_event({_kind, value}, open), do: close(value, open)
  def handle_event(:end_json, {:read, value}), do: value

  defp close(value, [{:key, name}, {:object, members} | open]), do: [{:object, [{name, value} | members]} | open]
  defp close(value, [{:array, items} | open]), do: [{:array, [value | items]} | open]
  defp close(value, []), do: {:read, value}
end
