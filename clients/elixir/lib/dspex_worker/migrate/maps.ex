defmodule DSPexWorker.Migrate.Maps do
  @moduledoc false

  # Signatures that are literal maps become modules. A map is moved only where all that happens to it is that it is given
  # on as a `signature:`, through a variable or a function without arguments, if need be.

  alias DSPexWorker.Migrate.{DSL, Edits, Literal, Tree}

  @comparisons [:==, :===, :!=, :!==]
  @matches [:=, :<-, :->, :match?]
  @receives [:assert_receive, :assert_received, :refute_receive, :refute_received]
  @header [:use, :import, :alias, :require]

  @type left :: {line :: pos_integer, reason :: String.t()}

  @doc "The calls of a file that may be to a function of another one: `{name, given on as a signature?}`."
  @spec calls(Macro.t()) :: [{atom, boolean}]
  def calls(tree) do
    for {node, path} <- Tree.find(tree, &remote_call?/1), do: {name(node), given_on?(node, path)}
  end

  @doc "The source with a module for each map that was understood, and those that were left. `calls` are all files'."
  @spec rewrite(String.t(), Macro.t(), [{atom, boolean}]) :: {String.t(), [left]}
  def rewrite(source, tree, calls) do
    {edits, left, _named} =
      tree
      |> Tree.find(&both_sides?/1)
      |> Enum.filter(fn {node, path} -> signature?(node, path) end)
      |> Enum.reduce({[], [], %{}}, fn {node, path}, {edits, left, named} ->
        case replace(node, path, {tree, calls, named}) do
          {:ok, more, named} -> {edits ++ more, left, named}
          {:error, reason} -> {edits, [{Tree.first_line(node), reason} | left], named}
        end
      end)

    {Edits.apply(source, edits), Enum.reverse(left)}
  end

  defp replace(node, path, {tree, calls, named}) do
    with :ok <- ordinary(node, path),
         {:ok, hint} <- place(node, path, calls),
         {:ok, signature} <- literal(node),
         {:ok, name} <- module_name(signature, hint),
         {:ok, name, text, known?} <- module(name, signature, {tree, path, named}) do
      named = Map.put(named, {key(path), name}, text)
      replacement = Edits.replace_map(node, name)
      {:ok, if(known?, do: [replacement], else: [insertion(path, tree, text), replacement]), named}
    end
  end

  # Which maps

  # One that is put together at run time is one all the same where it is given as such, and must not be passed over.
  defp signature?(node, path) do
    both_lists?(node) or
      (match?({:signature, _hint}, position(node, path)) and ordinary(node, path) == :ok)
  end

  defp both_sides?(node), do: length(sides(node)) == 2
  defp both_lists?(node), do: both_sides?(node) and Enum.all?(sides(node), &is_list/1)

  defp sides({:%{}, _meta, pairs}) when is_list(pairs) do
    for {key, value} <- pairs, name = Literal.unwrap(key), side?(name), do: Literal.unwrap(value)
  end

  defp sides(_node), do: []

  defp side?(name), do: name in [:inputs, :outputs, "inputs", "outputs"]

  defp literal(node) do
    with :error <- Literal.value(node), do: {:error, "it holds code that is no literal"}
  end

  # Code that is run for its value: in a pattern, a comparison or a quote a module is not the same as a map.
  defp ordinary(node, path) do
    [node | path]
    |> Enum.zip(path)
    |> Enum.find_value(:ok, fn {child, parent} ->
      case use_of(child, parent) do
        nil -> nil
        place -> {:error, "it stands in a #{place}"}
      end
    end)
  end

  defp use_of(_child, {:quote, _meta, _arguments}), do: "quote"
  defp use_of(_child, {word, _meta, [_left, _right]}) when word in @comparisons, do: "comparison"
  defp use_of(left, {word, _meta, [left, _right]}) when word in @matches, do: "pattern"
  defp use_of(head, {word, _meta, [head, _body]}) when word in [:def, :defp], do: "pattern"
  defp use_of(pattern, {word, _meta, [pattern | _more]}) when word in @receives, do: "pattern"
  defp use_of(_child, _parent), do: nil

  # What happens to it

  defp place(node, path, calls) do
    case position(node, path) do
      {:signature, hint} -> {:ok, hint}
      {:variable, name} -> of_variable(name, path)
      {:function, name} -> of_function(name, path, calls)
      :other -> {:error, "it is not plain that it is only used as a signature"}
    end
  end

  defp position(node, [{key, node} | rest]) do
    if Literal.unwrap(key) in [:signature, "signature"], do: {:signature, id(rest)}, else: of_body(node, key, rest)
  end

  defp position(node, [{:=, _meta, [{name, _name_meta, context}, node]} | _path])
       when is_atom(name) and is_atom(context),
       do: {:variable, name}

  defp position(node, [{:__block__, _meta, expressions} = block | [{key, block} | rest]]) do
    if List.last(expressions) == node, do: of_body(block, key, rest), else: :other
  end

  defp position(_node, _path), do: :other

  # The pair `do: body` lies in a list, in a wrapper where brackets are written, in the definition.
  defp of_body(_body, key, path) do
    with :do <- Literal.unwrap(key),
         {word, _meta, _arguments} = definition when word in [:def, :defp] <-
           Enum.find(path, &match?({_, _, [_ | _]}, &1)),
         {name, 0} <- Tree.head(definition) do
      {:function, name}
    else
      _other -> :other
    end
  end

  # `%{id: "sentiment", signature: %{…}}` has a name for it.
  defp id([pairs | _path]) when is_list(pairs), do: id_of(pairs)
  defp id([{:%{}, _meta, pairs} | _path]), do: id_of(pairs)
  defp id(_path), do: nil

  defp id_of(pairs) do
    Enum.find_value(pairs, fn
      {key, value} -> if Literal.unwrap(key) in [:id, "id"], do: text(Literal.unwrap(value))
      _other -> nil
    end)
  end

  defp text(text) when is_binary(text), do: text
  defp text(_code), do: nil

  defp of_variable(name, path) do
    uses = path |> Tree.scope() |> Tree.find(&match?({^name, _meta, context} when is_atom(context), &1))

    case Enum.reject(uses, fn {node, path} -> bound?(node, path) or as_signature?(node, path) end) do
      [] -> {:ok, to_string(name)}
      [{node, _path} | _more] -> {:error, "`#{name}` is used in another way in line #{Tree.first_line(node)}"}
    end
  end

  defp bound?(node, [{:=, _meta, [node, value]} | _path]), do: both_lists?(value) or call?(value)
  defp bound?(_node, _path), do: false

  defp as_signature?(node, [{key, node} | _path]), do: Literal.unwrap(key) in [:signature, "signature"]
  defp as_signature?(_node, _path), do: false

  defp of_function(name, path, calls) do
    others = path |> List.last() |> Tree.find(&local_call?(&1, name)) |> Enum.reject(&head?/1)

    cond do
      not Enum.all?(others, fn {node, path} -> given_on?(node, path) end) ->
        {:error, "what `#{name}/0` returns is not only used as a signature"}

      not Enum.all?(Keyword.get_values(calls, name)) ->
        {:error, "what `#{name}/0` returns is not only used as a signature in another file"}

      true ->
        {:ok, to_string(name)}
    end
  end

  defp head?({node, [{word, _meta, [node | _body]} | _path]}), do: word in [:def, :defp]
  defp head?(_use), do: false

  defp local_call?({name, _meta, arguments}, name), do: arguments == [] or is_atom(arguments)
  defp local_call?(_node, _name), do: false

  defp remote_call?({{:., _dot, [_module, name]}, _meta, []}), do: is_atom(name)
  defp remote_call?(_node), do: false

  defp call?({name, _meta, []}) when is_atom(name), do: true
  defp call?(node), do: remote_call?(node)

  defp name({{:., _dot, [_module, name]}, _meta, []}), do: name

  # A call that is given on as a signature, or bound to a variable that is.
  defp given_on?(node, path) do
    as_signature?(node, path) or
      case position(node, path) do
        {:variable, variable} -> match?({:ok, _hint}, of_variable(variable, path))
        _other -> false
      end
  end

  # Its module

  defp module_name(signature, hint) do
    given = signature[:name] || signature["name"]
    last = given |> to_string() |> String.split(".") |> List.last()
    names = [last, camelized(given), camelized(hint), camelized(fields(signature))]

    case Enum.find(names, &alias?/1) do
      nil -> {:error, "it has no name to call a module by"}
      name -> {:ok, name}
    end
  end

  # `question -> answer` is a QuestionToAnswer.
  defp fields(signature) do
    [inputs: "inputs", outputs: "outputs"]
    |> Enum.map(fn {atom, text} -> signature[atom] || signature[text] end)
    |> Enum.map_join("_to_", fn
      [%{} = field | _more] -> to_string(field[:name] || field["name"])
      _other -> "?"
    end)
  end

  defp camelized(nil), do: ""

  defp camelized(text) do
    text = to_string(text)
    if text =~ ~r/\Asig(nature)?\d*\z/, do: "", else: text |> String.replace(~r/\W+/u, "_") |> Macro.camelize()
  end

  defp alias?(name), do: name =~ ~r/\A[A-Z][A-Za-z0-9_]*\z/

  # The same signature twice in a module is one.
  defp module(name, signature, {tree, path, named} = seen) do
    with {:ok, text} <- DSL.module(name, signature) do
      case named[{key(path), name}] do
        ^text -> {:ok, name, text, true}
        nil -> if taken?(name, tree), do: longer(name, signature, seen), else: {:ok, name, text, false}
        _other -> {:error, "another signature is called #{name}"}
      end
    end
  end

  defp longer(name, signature, seen) do
    if String.ends_with?(name, "Signature"),
      do: {:error, "the name #{name} is taken"},
      else: module(name <> "Signature", signature, seen)
  end

  defp taken?(name, tree) do
    name = String.to_atom(name)

    Tree.find(tree, &match?({:__aliases__, _meta, [_ | _]}, &1))
    |> Enum.any?(fn {{_, _, names}, _} -> name in names end)
  end

  # Modules of one name in two modules are two.
  defp key(path) do
    case Tree.module(path) do
      nil -> :file
      module -> Tree.first_line(module)
    end
  end

  defp insertion(path, tree, text) do
    case Tree.module(path) do
      nil -> Edits.insert_before(expression_around(tree, path), text)
      module -> Edits.insert_before(first_after_header(module), text)
    end
  end

  defp expression_around(tree, path) do
    Enum.find(Tree.expressions(tree), &(&1 in path))
  end

  defp first_after_header(module) do
    expressions = module |> Tree.body() |> Tree.expressions()
    Enum.find(expressions, List.last(expressions), &(not header?(&1)))
  end

  defp header?({word, _meta, _arguments}) when word in @header, do: true
  defp header?({:@, _meta, [{:moduledoc, _doc_meta, _text}]}), do: true
  defp header?(_expression), do: false
end
