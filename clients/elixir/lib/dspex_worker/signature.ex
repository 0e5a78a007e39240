defmodule DSPexWorker.Signature do
  @moduledoc """
  Declares what goes into a call and what must come out of it.

      defmodule MyApp.Sentiment do
        @moduledoc "Detects the sentiment of a text"
        use DSPexWorker.Signature

        signature do
          input  :text, :string, desc: "Text to analyse", min_length: 1
          output :sentiment, :string, one_of: ~w(positive negative neutral)
          output :confidence, :probability
        end
      end

  A field is a name, a type (`:string` if none is given) and options. The same in one line, as a string that is parsed when
  the module is compiled, or as the nearest to an arrow that Elixir parses:

      signature "text: string -> sentiment: string, confidence: probability"

      signature (text: :string -> [sentiment: {:string, one_of: ~w(positive negative neutral)}, confidence: :probability])

  `@signature_ast`, as signatures of DSPex are written by hand, is taken too. What a mistake says, and where it is, the
  compiler tells.

  ## Types

  | type | value |
  |---|---|
  | `:string` | text |
  | `:integer` `:float` `:boolean` | an integer, a number, true or false |
  | `:atom` | text, mostly with `one_of:`; it comes back as a string |
  | `:any` `:map` `:list` | anything, a map with string keys, a list |
  | `:probability` `:confidence_score` | a number from 0 to 1 |
  | `:embedding` `:reasoning_chain` | a list of numbers, a list of strings |
  | `{:list, type}` | a list of one type |
  | `{:dict, key, type}` | a map; keys are strings, integers or a choice |
  | `{:union, [type, type]}` | one of several types |
  | `{:optional, type}` | the type, or nil |
  | `{:object, properties: [name: :string]}` | a map with these members and no others; it comes back with the keys that are declared, here atoms |
  | `{type, options}` | a type with constraints, at any depth: `{:list, {:string, min_length: 1}}` |
  | `"list<string>?"` | any text of the wire's grammar |

  ## Options

  `desc`, `required`, `optional`, `default`, and the constraints of `DSPexWorker.Signature.Constraints`: `one_of`, `min`, `max`,
  `min_length`, `pattern` (a string or a regex), `format` and so on. Their values are evaluated where they stand, so they may
  be attributes of the module or results of functions.

  ## What a signature module exports

  | function | result |
  |---|---|
  | `validate_inputs/1` `validate_outputs/1` | `{:ok, map}` with the signature's own keys, or `{:error, DSPexWorker.Error}` |
  | `to_json_schema/1` `to_json_schema/2` | a schema for `:openai` (the default), `:anthropic` or `:generic`, of the outputs, for `:anthropic` of the inputs, or of the side that is given: see `DSPexWorker.Signature.JsonSchema` |
  | `describe/0` | the signature in one line |
  | `__signature__/0` `input_fields/0` `output_fields/0` | the fields, as `{name, type, constraints}` |

  and the types `t` (the outputs) and `inputs`. The description, which reaches the prompt, is the first paragraph of
  `@moduledoc`, or what `use DSPexWorker.Signature, description: "…"` or `description "…"` says.
  """

  alias DSPexWorker.Signature.Compiler

  @doc false
  defmacro __using__(options) do
    quote do
      import DSPexWorker.Signature, only: [signature: 1, description: 1]
      Module.register_attribute(__MODULE__, :signature_ast, accumulate: false)
      Module.register_attribute(__MODULE__, :dspex_worker_fields, accumulate: true)
      @dspex_worker_options unquote(options)
      @before_compile DSPexWorker.Signature
    end
  end

  @doc "Declares the signature: a block, a string, or an arrow in brackets. See the module's documentation."
  defmacro signature(declaration)

  defmacro signature(do: [{:->, _meta, _sides}] = arrow), do: arrow(arrow, __CALLER__)
  defmacro signature([{:->, _meta, _sides}] = arrow), do: arrow(arrow, __CALLER__)

  defmacro signature(do: block) do
    quote do
      Compiler.open(unquote(here(__CALLER__)))

      try do
        import DSPexWorker.Signature.Block, warn: false
        unquote(block)
      after
        :ok
      end
    end
  end

  defmacro signature(text) do
    quote do
      Compiler.open(unquote(here(__CALLER__)))
      Compiler.put_text(unquote(here(__CALLER__)), unquote(text))
    end
  end

  @doc "Sets the description, which reaches the prompt; without it, it is the first paragraph of `@moduledoc`."
  defmacro description(text) do
    quote do: Module.put_attribute(__MODULE__, :signature_description, unquote(text))
  end

  @doc false
  defmacro __before_compile__(env), do: Compiler.compile(env)

  @doc false
  # The module, file and line of a call, to be handed on when the module's body runs.
  def here(caller), do: Macro.escape({caller.module, caller.file, caller.line})

  defp arrow([{:->, meta, [left, right]}], caller) do
    place = {caller.module, caller.file, Keyword.get(meta, :line, caller.line)}
    inputs = left |> Enum.flat_map(&List.wrap/1) |> Enum.map(&put_call(:inputs, &1, place))
    outputs = right |> List.wrap() |> Enum.map(&put_call(:outputs, &1, place))

    quote do
      Compiler.open(unquote(Macro.escape(place)))
      unquote_splicing(inputs ++ outputs)
    end
  end

  defp put_call(side, {name, type}, {module, file, line}) when is_atom(name) do
    place = {module, file, line_of(type, line)}
    quote do: Compiler.put(unquote(Macro.escape(place)), unquote(side), unquote(name), unquote(type), [])
  end

  defp put_call(_side, other, place) do
    Compiler.refuse(place, "a field of a signature is `name: type`, not `#{Macro.to_string(other)}`")
  end

  defp line_of({_name, meta, _arguments}, line) when is_list(meta), do: Keyword.get(meta, :line, line)
  defp line_of({one, other}, line), do: line_of(one, line_of(other, line))
  defp line_of([first | _], line), do: line_of(first, line)
  defp line_of(_literal, line), do: line
end

defmodule DSPexWorker.Signature.Block do
  @moduledoc """
  What may stand in the block of `signature do … end`: `input` and `output`, each with a name, a type and options.

  Without a type a field is a `:string`.
  """

  alias DSPexWorker.Signature.Compiler

  @doc "Declares an input: `input :text`, `input :text, :string` or `input :text, :string, min_length: 1`."
  defmacro input(name, type \\ :string, options \\ []), do: put(:inputs, name, type, options, __CALLER__)

  @doc "Declares an output: `output :label`, `output :label, :string` or `output :label, :string, one_of: ~w(a b)`."
  defmacro output(name, type \\ :string, options \\ []), do: put(:outputs, name, type, options, __CALLER__)

  defp put(side, name, type, options, caller) do
    quote do
      Compiler.put(
        unquote(DSPexWorker.Signature.here(caller)),
        unquote(side),
        unquote(name),
        unquote(type),
        unquote(options)
      )
    end
  end
end
