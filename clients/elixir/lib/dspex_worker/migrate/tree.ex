defmodule DSPexWorker.Migrate.Tree do
  @moduledoc false

  # Quoted code with the way to each node, and where a node stands in the source.

  alias DSPexWorker.Migrate.Literal

  @options [columns: true, token_metadata: true, emit_warnings: false]
  @definitions [:def, :defp, :defmacro, :defmacrop, :test, :setup, :setup_all]

  @type path :: [Macro.t()]

  @doc "The quoted source, each literal in a block that knows its place."
  @spec parse(String.t()) :: {:ok, Macro.t()} | :error
  def parse(source) do
    case Code.string_to_quoted(source, [literal_encoder: &{:ok, {:__block__, &2, [&1]}}] ++ @options) do
      {:ok, quoted} -> {:ok, quoted}
      {:error, _reason} -> :error
    end
  end

  @doc "All `{node, path}` that a function accepts, in the source's order; a path begins with the parent."
  @spec find(Macro.t(), (Macro.t() -> boolean), path) :: [{Macro.t(), path}]
  def find(node, accepts, path \\ []) do
    below = node |> children() |> Enum.flat_map(&find(&1, accepts, [node | path]))
    if accepts.(node), do: [{node, path} | below], else: below
  end

  @doc "The line of the first token below a node."
  @spec first_line(Macro.t()) :: pos_integer
  def first_line(node), do: node |> lines() |> Enum.min()

  @doc "The definition around a path's node, else the module, else the file."
  @spec scope(path) :: Macro.t()
  def scope(path), do: Enum.find(path, &definition?/1) || module(path) || List.last(path)

  @doc "The module around a path's node, or nil."
  @spec module(path) :: Macro.t() | nil
  def module(path), do: Enum.find(path, &match?({:defmodule, _meta, [_name, _body]}, &1))

  @doc "The expressions of a body."
  @spec expressions(Macro.t()) :: [Macro.t()]
  def expressions({:__block__, _meta, [only]}) when not is_tuple(only), do: [{:__block__, [], [only]}]
  def expressions({:__block__, _meta, expressions}), do: expressions
  def expressions(only), do: [only]

  @doc "What stands after `do`."
  @spec body(Macro.t()) :: Macro.t() | nil
  def body({_word, _meta, arguments}) when is_list(arguments) do
    with pairs when is_list(pairs) <- arguments |> List.last() |> Literal.unwrap() do
      Enum.find_value(pairs, fn
        {key, body} -> if Literal.unwrap(key) == :do, do: body
        _other -> nil
      end)
    else
      _none -> nil
    end
  end

  @doc "Name and number of arguments of a definition, or nil."
  @spec head(Macro.t()) :: {atom, non_neg_integer} | nil
  def head({word, _meta, [{:when, _when_meta, [head, _guard]} | _body]}) when word in @definitions, do: name(head)
  def head({word, _meta, [head | _body]}) when word in @definitions, do: name(head)
  def head(_other), do: nil

  defp name({name, _meta, arguments}) when is_atom(name), do: {name, length(List.wrap(arguments))}
  defp name(_other), do: nil

  defp definition?({word, _meta, [_head | _body]}), do: word in @definitions
  defp definition?(_other), do: false

  defp children({form, _meta, arguments}) when is_list(arguments) do
    if is_tuple(form), do: [form | arguments], else: arguments
  end

  defp children({one, other}), do: [one, other]
  defp children(items) when is_list(items), do: items
  defp children(_leaf), do: []

  defp lines({_form, meta, _arguments} = node) when is_list(meta) do
    List.wrap(meta[:line]) ++ Enum.flat_map(children(node), &lines/1)
  end

  defp lines(node), do: node |> children() |> Enum.flat_map(&lines/1)
end
