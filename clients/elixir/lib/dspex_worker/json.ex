defmodule DSPexWorker.JSON do
  @moduledoc """
  JSON behind a behaviour: `Jason`, Elixir's own `JSON` (1.18) or Erlang's `:jsx`, whichever is loaded.

  To choose one yourself, or to bring your own:

      config :dspex_worker, json: MyApp.JSON

  or `json: MyApp.JSON` as an option of `DSPexWorker.Client`. An implementation is only given what `plain/1` makes: maps
  with string keys, lists, strings, numbers, `true`, `false` and `nil`. So `nil`, atoms, keyword lists, tuples, dates
  and floats are written alike by all of them.
  """

  @doc "Whether the library behind this implementation is loaded."
  @callback available?() :: boolean

  @doc "Writes a plain value; floats keep their fraction, `nil` is `null`."
  @callback encode(plain) :: {:ok, binary} | {:error, term}

  @doc "Reads a value; objects become maps with string keys, `null` becomes `nil`."
  @callback decode(binary) :: {:ok, plain} | {:error, term}

  @typedoc "What JSON can say, and nothing else."
  @type plain :: nil | boolean | number | String.t() | [plain] | %{optional(String.t()) => plain}

  @typedoc "JSON pointer and what is wrong there."
  @type problem :: {String.t(), String.t()}

  @implementations [DSPexWorker.JSON.Jason, DSPexWorker.JSON.Native, DSPexWorker.JSON.Jsx]

  @doc """
  The implementation that is configured, else the first one whose library is loaded.

  Raises `RuntimeError` if there is none.
  """
  @spec default() :: module
  def default do
    Application.get_env(:dspex_worker, :json) || Enum.find(@implementations, & &1.available?()) ||
      raise "no JSON library is loaded: add :jason to your dependencies, use Elixir 1.18, or list :jsx in " <>
              "extra_applications of your mix.exs"
  end

  @doc """
  Turns an Elixir term into what JSON can say.

  Atoms become strings, keyword lists objects, tuples lists, sets lists, dates and times ISO 8601, integer keys decimal
  strings. What has no one meaning is refused, with its place: other structs, functions, text that is not UTF-8, and
  keys that become the same.

      iex> DSPexWorker.JSON.plain(%{when: ~D[2026-01-31], tags: [:a, nil], point: {1, 2.0}, opts: [lm: :fast]})
      {:ok, %{"when" => "2026-01-31", "tags" => ["a", nil], "point" => [1, 2.0], "opts" => %{"lm" => "fast"}}}

      iex> DSPexWorker.JSON.plain(%{"a" => 1, a: 2})
      {:error, {"/a", "comes twice"}}
  """
  @spec plain(term) :: {:ok, plain} | {:error, problem}
  def plain(term) do
    {:ok, plain(term, [])}
  catch
    {__MODULE__, path, problem} -> {:error, {pointer(path), problem}}
  end

  defp plain(value, _path) when is_nil(value) or is_boolean(value) or is_number(value), do: value
  defp plain(value, _path) when is_atom(value), do: Atom.to_string(value)
  defp plain(value, path) when is_binary(value), do: text(value, path)
  defp plain(value, path) when is_struct(value), do: known(value, path)
  defp plain(value, path) when is_map(value), do: value |> :maps.to_list() |> object(path)
  defp plain(value, path) when is_tuple(value), do: value |> Tuple.to_list() |> items(path)
  defp plain([{key, _value} | _rest] = list, path) when is_atom(key), do: pairs(list, path)
  defp plain(value, path) when is_list(value), do: items(value, path)
  defp plain(value, path), do: refuse(path, "#{inspect(value)} has no form in JSON")

  defp text(value, path) do
    if String.valid?(value), do: value, else: refuse(path, "is not UTF-8")
  end

  defp known(%module{} = value, _path) when module in [Date, Time, DateTime, NaiveDateTime] do
    module.to_iso8601(value)
  end

  defp known(%MapSet{} = set, path), do: set |> MapSet.to_list() |> items(path)
  defp known(%URI{} = uri, _path), do: URI.to_string(uri)
  defp known(%module{}, path), do: refuse(path, "a #{inspect(module)} has no form in JSON: make it a map first")

  defp pairs(list, path) do
    if Keyword.keyword?(list), do: object(list, path), else: items(list, path)
  end

  defp object(pairs, path) do
    Enum.reduce(pairs, %{}, fn {key, value}, object ->
      name = key(key, path)
      if is_map_key(object, name), do: refuse([name | path], "comes twice")
      Map.put(object, name, plain(value, [name | path]))
    end)
  end

  defp key(key, path) when is_binary(key), do: text(key, path)
  defp key(key, _path) when is_atom(key), do: Atom.to_string(key)
  defp key(key, _path) when is_integer(key), do: Integer.to_string(key)
  defp key(key, path), do: refuse(path, "the key #{inspect(key)} has no form in JSON")

  defp items(list, path), do: items(list, path, 0)

  defp items([item | rest], path, index), do: [plain(item, [index | path]) | items(rest, path, index + 1)]
  defp items([], _path, _index), do: []
  defp items(_tail, path, _index), do: refuse(path, "an improper list has no form in JSON")

  @spec refuse(list, String.t()) :: no_return
  defp refuse(path, problem), do: throw({__MODULE__, path, problem})

  defp pointer(path) do
    path |> Enum.reverse() |> Enum.map_join(&"/#{escape(to_string(&1))}")
  end

  defp escape(name), do: name |> String.replace("~", "~0") |> String.replace("/", "~1")
end
