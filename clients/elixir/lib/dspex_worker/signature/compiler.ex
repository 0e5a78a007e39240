defmodule DSPexWorker.Signature.Compiler do
  @moduledoc false
  # Gathers the fields of a signature module while its body runs, and writes its functions before it is compiled.

  alias DSPexWorker.Error
  alias DSPexWorker.Signature.{Definition, Field, Terms, Typespec, Wire}

  @max_fields 100

  @doc "Begins a signature; there is one in a module."
  def open({module, _file, _line} = place) do
    if Module.get_attribute(module, :dspex_worker_place), do: refuse(place, "the signature is declared twice")
    Module.put_attribute(module, :dspex_worker_place, place)
  end

  @doc "Adds a field; options may stand in place of the type."
  def put(place, side, name, [{_key, _value} | _] = options, []), do: put(place, side, name, :string, options)

  def put(place, side, name, type, options) do
    unless is_atom(name) and name not in [nil, true, false] do
      refuse(place, "the name of a field is an atom, not #{inspect(name)}")
    end

    unless Keyword.keyword?(options) do
      refuse(place, "the options of field #{name} are a keyword list, not #{inspect(options)}")
    end

    add(place, side, read(place, {name, type, options}), Terms.bare(type))
  end

  @doc "Adds the fields of a signature in the wire's grammar."
  def put_text(place, text) when is_binary(text) do
    definition = ok!(Definition.of(text), place)
    for field <- definition.inputs, do: add_text(place, :inputs, field)
    for field <- definition.outputs, do: add_text(place, :outputs, field)
    :ok
  end

  def put_text(place, other) do
    refuse(place, "a signature is a block, a string or `(name: type -> [name: type])`, not #{inspect(other)}")
  end

  @doc "The functions of the signature module."
  def compile(env) do
    place = Module.get_attribute(env.module, :dspex_worker_place) || put_ast(env)
    definition = definition(env.module, place)
    shape = shape(env.module, definition)
    functions(definition, shape)
  end

  @spec refuse({module, String.t(), non_neg_integer}, String.t()) :: no_return
  def refuse({_module, file, line}, reason), do: raise(CompileError, file: file, line: line, description: reason)

  # The names are written in the program's own source, so they may become atoms.
  defp add_text(place, side, field), do: add(place, side, %{field | key: String.to_atom(field.name)}, nil)

  defp add({module, _file, _line} = place, side, field, declared) do
    Module.put_attribute(module, :dspex_worker_fields, {side, field, declared, place})
  end

  defp read(place, field) do
    case field |> Wire.field() |> Definition.read_field() do
      {:ok, field, warnings} ->
        for warning <- warnings, do: warn(place, warning)
        field

      {:error, error} ->
        refuse(place, error.message)
    end
  end

  defp warn({module, file, line}, text), do: IO.warn(text, file: file, line: line, module: module)

  defp put_ast(env) do
    place = {env.module, env.file, env.line}

    case Module.get_attribute(env.module, :signature_ast) do
      nil ->
        refuse(place, "#{inspect(env.module)} uses DSPexWorker.Signature and declares no signature")

      {:->, _meta, [inputs, outputs]} ->
        for field <- List.flatten([inputs]), do: put_quoted(place, :inputs, field)
        for field <- List.flatten([outputs]), do: put_quoted(place, :outputs, field)
        place

      other ->
        refuse(place, "@signature_ast is {:->, [], [inputs, outputs]}, not #{inspect(other)}")
    end
  end

  defp put_quoted(place, side, {name, type}), do: put(place, side, name, Terms.unquoted(type), [])

  defp put_quoted(place, _side, other),
    do: refuse(place, "a field of @signature_ast is {name, type}, not #{inspect(other)}")

  defp definition(module, place) do
    fields = fields(module)
    require_sides(fields, place)
    require_unique(fields)

    definition = %Definition{
      name: Atom.to_string(module),
      description: description(module, place),
      inputs: for({:inputs, field, _declared, _place} <- fields, do: field),
      outputs: for({:outputs, field, _declared, _place} <- fields, do: field),
      module: module
    }

    # Read as a whole once more, for the limits that all fields share.
    definition |> Definition.to_wire() |> Definition.of() |> ok!(place)
    definition
  end

  defp fields(module), do: module |> Module.get_attribute(:dspex_worker_fields) |> Enum.reverse()

  defp require_sides(fields, place) do
    for {side, word} <- [inputs: "input", outputs: "output"], not List.keymember?(fields, side, 0) do
      refuse(place, "a signature has at least one #{word}")
    end

    if length(fields) > @max_fields, do: refuse(place, "more than #{@max_fields} fields")
  end

  defp require_unique(fields) do
    Enum.reduce(fields, MapSet.new(), fn {_side, field, _declared, place}, names ->
      if field.name in names, do: refuse(place, "Field #{field.name}: the name is used twice")
      MapSet.put(names, field.name)
    end)
  end

  defp description(module, place) do
    options = Module.get_attribute(module, :dspex_worker_options) || []

    case Module.get_attribute(module, :signature_description) || options[:description] do
      nil -> module |> Module.get_attribute(:moduledoc) |> first_paragraph()
      text when is_binary(text) -> String.trim(text)
      other -> refuse(place, "the description is a string, not #{inspect(other)}")
    end
  end

  defp first_paragraph({_line, text}) when is_binary(text) do
    text |> String.trim() |> String.split(~r/\n\s*\n/, parts: 2) |> hd() |> String.replace(~r/\s*\n\s*/, " ")
  end

  defp first_paragraph(_none), do: ""

  defp shape(module, definition) do
    declared = for {_side, field, declared, _place} <- fields(module), into: %{}, do: {field.name, declared}

    %{
      inputs: Enum.map(definition.inputs, &triple(&1, declared[&1.name])),
      outputs: Enum.map(definition.outputs, &triple(&1, declared[&1.name])),
      module: module,
      description: definition.description,
      opts: Module.get_attribute(module, :dspex_worker_options) || []
    }
  end

  # As DSPex has them: the type as it was declared, and beside it the constraints that the type does not imply.
  defp triple(%Field{} = field, nil), do: triple(field, Terms.of(field.type))

  defp triple(%Field{} = field, declared) do
    {:ok, plain, _warnings} = {field.key, declared, []} |> Wire.field() |> Definition.read_field()
    own = for {name, value} <- field.constraints, plain.constraints[name] != value, do: {constraint(name), value}
    {field.key, declared, presence(field) ++ own}
  end

  defp presence(field) do
    List.flatten([
      if(field.description == "", do: [], else: [description: field.description]),
      if(field.required or field.default != :none, do: [], else: [optional: true]),
      case field.default do
        {:value, default} -> [default: default]
        :none -> []
      end
    ])
  end

  # Names of constraints are the contract's, or stand in the program's own source.
  defp constraint(name), do: String.to_atom(name)

  defp ok!({:ok, definition}, _place), do: definition
  defp ok!({:error, %Error{message: message}}, place), do: refuse(place, message)

  defp functions(definition, shape) do
    quote do
      unquote(types(definition))

      @doc false
      @spec __dspex_worker__() :: DSPexWorker.Signature.Definition.t()
      def __dspex_worker__, do: unquote(Macro.escape(definition))

      @doc "The signature, in the shape that DSPex's tools read."
      @spec __signature__() :: map
      def __signature__, do: unquote(Macro.escape(shape))

      @doc "The inputs, each `{name, type, constraints}`."
      @spec input_fields() :: [{atom, term, keyword}]
      def input_fields, do: __signature__().inputs

      @doc "The outputs, each `{name, type, constraints}`."
      @spec output_fields() :: [{atom, term, keyword}]
      def output_fields, do: __signature__().outputs

      @doc "Checks inputs: `{:ok, inputs}` with defaults filled in, or all that is wrong with them."
      @spec validate_inputs(map | keyword) :: {:ok, map} | {:error, DSPexWorker.Error.t()}
      def validate_inputs(inputs), do: DSPexWorker.Signature.Validator.validate_own_inputs(__dspex_worker__(), inputs)

      @doc "Checks outputs: `{:ok, outputs}` with all of them, or all that is wrong with them."
      @spec validate_outputs(map | keyword) :: {:ok, map} | {:error, DSPexWorker.Error.t()}
      def validate_outputs(outputs), do: DSPexWorker.Signature.Validator.validate_outputs(__dspex_worker__(), outputs)

      @doc "A JSON Schema in the shape of a provider, `:openai`, `:anthropic` or `:generic`, of the side it asks for."
      @spec to_json_schema(atom) :: map
      def to_json_schema(provider \\ :openai) do
        DSPexWorker.Signature.JsonSchema.generate(__dspex_worker__(), provider)
      end

      @doc "A JSON Schema in the shape of a provider, of the `:inputs` or the `:outputs`."
      @spec to_json_schema(atom, :inputs | :outputs) :: map
      def to_json_schema(provider, side) do
        DSPexWorker.Signature.JsonSchema.generate(__dspex_worker__(), provider, side)
      end

      @doc "The signature in one line."
      @spec describe() :: String.t()
      def describe, do: unquote(described(shape))

      defoverridable validate_inputs: 1, validate_outputs: 1, to_json_schema: 1, to_json_schema: 2, describe: 0
    end
  end

  defp types(definition) do
    outputs = Typespec.of_fields(definition.outputs, true)
    inputs = Typespec.of_fields(definition.inputs, false)

    for {name, spec, doc} <- [{:t, outputs, "The outputs."}, {:inputs, inputs, "The inputs."}],
        not Module.defines_type?(definition.module, {name, 0}) do
      quote do
        @typedoc unquote(doc)
        @type unquote({name, [], nil}) :: unquote(spec)
      end
    end
  end

  defp described(shape) do
    [shape.inputs, shape.outputs]
    |> Enum.map_join(" -> ", fn fields ->
      Enum.map_join(fields, ", ", fn {name, type, _constraints} -> "#{name}: #{Terms.describe(type)}" end)
    end)
  end
end
