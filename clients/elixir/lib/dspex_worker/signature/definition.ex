defmodule DSPexWorker.Signature.Definition do
  @moduledoc """
  A normalised signature: what a definition means, whatever its spelling.

  `of/1` takes whatever may be a signature; `to_wire/1` gives what is sent.
  """

  alias DSPexWorker.Error
  alias DSPexWorker.Signature.{Bounds, Constraints, Field, Grammar, Names, Place, Presence, Spelling, Spellings, Type}
  alias DSPexWorker.Signature.{Wire, Words}

  @default_name "DynamicSignature"
  @max_fields 100
  @max_shown 10
  @known_keys ~w(name description inputs outputs metadata)
  @sides [:inputs, :outputs, "inputs", "outputs"]
  @field_keys ~w(name type description constraints metadata)

  @enforce_keys [:inputs, :outputs]
  defstruct name: @default_name, description: "", inputs: [], outputs: [], module: nil, warnings: []

  @typedoc """
  `module` is the signature module, if there is one; `warnings` tell what was kept without being enforced, or ignored.
  """
  @type t :: %__MODULE__{
          name: String.t(),
          description: String.t(),
          inputs: [Field.t(), ...],
          outputs: [Field.t(), ...],
          module: module | nil,
          warnings: [String.t()]
        }

  @doc """
  The definition that a module, a map or a string means.

  * a module that uses `DSPexWorker.Signature`, or any other that exports `__signature__/0` in DSPex's shape;
  * a map with `inputs` and `outputs`, with atoms or strings as keys: what DSPex sends, or `[text: :string]` for the fields;
  * a string, such as `"text -> sentiment: string, confidence: probability"`.

      iex> {:ok, definition} = DSPexWorker.Signature.Definition.of("text -> label, score: probability")
      iex> Enum.map(definition.outputs, & &1.name)
      ["label", "score"]

      iex> {:error, error} = DSPexWorker.Signature.Definition.of("text -> label: strng")
      iex> {error.code, error.field, error.message}
      {:unknown_type, "label", "Field label: unknown type `strng`; did you mean `string`?"}

      iex> {:ok, definition} = DSPexWorker.Signature.Definition.of(%{inputs: [text: :string], outputs: [n: {:integer, min: 1}]})
      iex> hd(definition.outputs).key
      :n
  """
  @spec of(t | module | map | String.t()) :: {:ok, t} | {:error, Error.t()}
  def of(%__MODULE__{} = definition), do: {:ok, definition}
  def of(text) when is_binary(text), do: read(fn place -> read_text(text, place) end)
  def of(module) when is_atom(module) and module not in [nil, true, false], do: of_module(module)
  def of(%{} = definition) when not is_struct(definition), do: of_map(definition)
  def of(_other), do: refuse("a signature is a module, a map or a string")

  @doc """
  The definition as it is sent: string keys, values for JSON, types and constraints in canonical spelling.

      iex> {:ok, definition} = DSPexWorker.Signature.Definition.of("text -> score: probability?")
      iex> %{"outputs" => [score]} = DSPexWorker.Signature.Definition.to_wire(definition)
      iex> {score["type"], score["constraints"]}
      {"float?", %{"maximum" => 1.0, "minimum" => 0.0}}
  """
  @spec to_wire(t) :: %{String.t() => term}
  def to_wire(%__MODULE__{} = definition) do
    wire = %{
      "name" => definition.name,
      "description" => definition.description,
      "inputs" => Enum.map(definition.inputs, &field_to_wire/1),
      "outputs" => Enum.map(definition.outputs, &field_to_wire/1)
    }

    if definition.module do
      Map.put(wire, "metadata", %{"module" => Atom.to_string(definition.module)})
    else
      wire
    end
  end

  @doc """
  Whether a signature declares nothing, so that the job is plain question and answer.

      iex> DSPexWorker.Signature.Definition.legacy?("question -> answer")
      true

      iex> DSPexWorker.Signature.Definition.legacy?(nil)
      true
  """
  @spec legacy?(term) :: boolean
  def legacy?(nil), do: true

  def legacy?(text) when is_binary(text) do
    String.valid?(text) and String.replace(text, ~r/\s+/u, "") == "question->answer"
  end

  def legacy?(%__MODULE__{}), do: false
  def legacy?(definition) when definition == %{}, do: true

  def legacy?(%{} = definition) when not is_struct(definition) do
    Enum.any?(definition, fn {key, value} -> key in @sides and value in [nil, [], %{}] end)
  end

  def legacy?(_other), do: false

  @doc """
  The definition in one line, cut where it has many fields.

      iex> {:ok, definition} = DSPexWorker.Signature.Definition.of("text -> labels: list<string>, score: probability?")
      iex> DSPexWorker.Signature.Definition.brief(definition)
      "text: string -> labels: list<string>, score: float?"
      iex> definition
      #DSPexWorker.Signature.Definition<DynamicSignature: text: string -> labels: list<string>, score: float?>
  """
  @spec brief(t) :: String.t()
  def brief(%__MODULE__{inputs: inputs, outputs: outputs}), do: brief_side(inputs) <> " -> " <> brief_side(outputs)

  defp brief_side(fields) do
    {shown, more} = Enum.split(fields, @max_shown)
    shown = Enum.map_join(shown, ", ", &Field.brief/1)
    if more == [], do: shown, else: "#{shown}, … #{length(more)} more"
  end

  @doc false
  # One field by itself, for the DSL: a fault is then known at its own line.
  def read_field(%{} = field), do: Place.read(fn -> field |> read_field(%Place{}) |> elem(0) end)

  defp of_module(module) do
    cond do
      not Code.ensure_loaded?(module) -> refuse("#{inspect(module)} is no module that can be loaded")
      function_exported?(module, :__dspex_worker__, 0) -> {:ok, module.__dspex_worker__()}
      function_exported?(module, :__signature__, 0) -> of_shape(module, module.__signature__())
      true -> refuse("#{inspect(module)} does not export __signature__/0")
    end
  end

  defp of_shape(module, %{inputs: _, outputs: _} = shape) do
    with {:ok, definition} <- shape |> Map.take([:inputs, :outputs, :description]) |> of_map() do
      {:ok, %{definition | name: Atom.to_string(module), module: module}}
    end
  end

  defp of_shape(module, _other), do: refuse("__signature__/0 of #{inspect(module)} gives no inputs and outputs")

  defp of_map(definition) do
    module = with module when is_atom(module) <- Map.get(definition, :module), do: module, else: (_other -> nil)

    with {:ok, read} <- read(fn place -> definition |> Wire.definition() |> read_object(place) end) do
      {:ok, %{read | module: module, name: name(read.name, module)}}
    end
  end

  defp name(@default_name, module) when module != nil, do: Atom.to_string(module)
  defp name(name, _module), do: name

  defp refuse(reason),
    do: {:error, Error.new(:invalid_signature, reason, problems: [%{path: "/signature", problem: reason}])}

  defp read(fun) do
    case Place.read(fn -> fun.(%Place{}) end) do
      {:ok, definition, warnings} -> {:ok, %{definition | warnings: Enum.take(warnings, 100)}}
      {:error, error} -> {:error, error}
    end
  end

  defp read_text(text, place) do
    {inputs, outputs} = Grammar.read_signature(text, place)
    fields = for {name, type} <- inputs ++ outputs, do: plain_field(name, type, place)
    require_count(length(fields), place)
    require_unique(fields, place)
    {inputs, outputs} = Enum.split(fields, length(inputs))
    %__MODULE__{inputs: inputs, outputs: outputs}
  end

  defp plain_field(name, type, place) do
    place |> Place.of_field(name) |> Place.require_depth(Type.depth(type))
    %Field{name: name, key: name, type: type, constraints: Spelling.constraints(type)}
  end

  defp read_object(definition, place) do
    name = read_string(definition, "name", place)
    description = read_string(definition, "description", place)

    for {key, _value} <- definition, key not in @known_keys do
      Place.warn(place, "unknown key #{Place.quoted(key)} in the signature is ignored")
    end

    inputs = read_list(definition, "inputs", place)
    outputs = read_list(definition, "outputs", place)
    require_count(length(inputs) + length(outputs), place)
    fields = Place.read_all(readings(inputs, "inputs", place) ++ readings(outputs, "outputs", place))
    require_unique(fields, place)
    {inputs, outputs} = Enum.split(fields, length(inputs))
    name = if name == "", do: @default_name, else: name
    %__MODULE__{name: name, description: description, inputs: inputs, outputs: outputs}
  end

  defp readings(fields, side, place) do
    for {field, index} <- Enum.with_index(fields) do
      fn -> field |> read_field(Place.at(place, [side, index])) |> elem(0) end
    end
  end

  defp read_list(definition, key, place) do
    case definition[key] do
      [_ | _] = side ->
        side

      _other ->
        reason = "#{Place.quoted(key)} must be a list of at least one field"
        place |> Place.at(key) |> Place.fault(:invalid_signature, reason)
    end
  end

  defp read_string(definition, key, place) do
    case definition[key] do
      nil -> ""
      text when is_binary(text) -> String.trim(text)
      _other -> place |> Place.at(key) |> Place.fault(:invalid_signature, "#{Place.quoted(key)} must be a string")
    end
  end

  defp require_count(count, place) when count > @max_fields do
    Place.fault(place, :invalid_signature, "more than #{@max_fields} fields", breaks_limit: true)
  end

  defp require_count(_count, _place), do: :ok

  defp require_unique(fields, place) do
    names = Enum.map(fields, & &1.name)

    for name <- names -- Enum.uniq(names) do
      place |> Place.of_field(name) |> Place.fault(:invalid_field_name, "the name is used twice")
    end
  end

  defp read_field(%{} = field, place) when not is_struct(field) do
    {key, field} = Map.pop(field, :key)
    name = Names.read(field["name"], Place.at(place, "name"))
    place = Place.of_field(place, name)
    {type, from_type} = field |> type_spelling() |> Spellings.open(Place.at(place, "type"))
    given = Constraints.sort(from_type ++ own_pairs(field, place))
    type = type |> Words.require_value(Place.at(place, "type")) |> Bounds.constrain(given)
    place |> Place.at("type") |> Place.require_depth(Type.depth(type))
    default = Presence.default(given, type)
    required? = Presence.required?(beside(field), given, place) and not Map.has_key?(given.words, "default")
    description = field |> read_string("description", place) |> Presence.description(given)

    read = %Field{
      name: name,
      key: if(is_atom(key) and key != nil, do: key, else: name),
      type: type,
      constraints: Map.merge(Spelling.constraints(type), given.unknown),
      description: description,
      required: required?,
      default: default
    }

    {read, given}
  end

  defp read_field(_other, place), do: Place.fault(place, :invalid_signature, "a field is an object with a name")

  # A field may itself be a schema object, with `items` or `anyOf` beside its name.
  defp type_spelling(field) do
    case Map.take(field, Spellings.structure_of(field)) do
      none when none == %{} -> "string"
      %{"type" => type} = only when map_size(only) == 1 -> type
      structure -> structure
    end
  end

  # What tells of presence beside the type; a nested object's list of names does not.
  defp beside(field), do: field |> Map.take(~w(required optional)) |> Map.drop(Spellings.structure_of(field))

  defp own_pairs(field, place) do
    pairs = Constraints.read_pairs(field["constraints"], Place.at(place, "constraints"))
    beside = Map.drop(field, Spellings.structure() ++ @field_keys)
    Place.require_constraints(place, length(pairs) + map_size(beside))
    pairs ++ Enum.flat_map(beside, &own_pair(&1, place))
  end

  defp own_pair({key, _value}, _place) when key in ~w(required optional), do: []

  defp own_pair({key, value}, place) do
    if Constraints.meaning(key) do
      [{key, value, Place.at(place, key)}]
    else
      Place.warn(place, "unknown key #{Place.quoted(key)} in the field is ignored")
      []
    end
  end

  defp field_to_wire(%Field{} = field) do
    wire = %{
      "name" => field.name,
      "type" => Spelling.base(field.type),
      "description" => field.description,
      "required" => field.required,
      "constraints" => field.constraints
    }

    case field.default do
      {:value, default} -> Map.put(wire, "default", default)
      :none -> wire
    end
  end
end

defimpl Inspect, for: DSPexWorker.Signature.Definition do
  def inspect(definition, _options) do
    name = String.replace_prefix(definition.name, "Elixir.", "")
    "#DSPexWorker.Signature.Definition<#{name}: #{DSPexWorker.Signature.Definition.brief(definition)}>"
  end
end
