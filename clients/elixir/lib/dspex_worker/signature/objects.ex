defmodule DSPexWorker.Signature.Objects do
  @moduledoc false
  # Reads nested objects with named members, as JSON Schema writes them.

  alias DSPexWorker.Signature.{Bounds, Constraints, Field, Names, Place, Presence, Spellings, Type, Words}

  @max_members 100

  @doc "The type of a schema object with `properties`, which are `{:ordered, pairs}` from a map or a keyword list."
  def read(schema, place) do
    if Map.get(schema, "additionalProperties", false) != false do
      reason = "an object has either `properties` or `additionalProperties`, not both"
      place |> Place.at("additionalProperties") |> Place.fault(:unknown_type, reason)
    end

    inner = Place.at(place, "properties")
    properties = read_properties(schema["properties"], inner)
    listed = read_listed(schema["required"], Place.at(place, "required"))

    members =
      for {name, spelling} <- properties do
        read_member(name, spelling, listed, Place.inside(inner, name))
      end

    require_names(Enum.map(members, & &1.name), listed, place)
    Type.object_of(members)
  end

  defp read_properties({:ordered, [_ | _] = properties}, place), do: require_count(properties, place)

  defp read_properties(_other, place) do
    reason = "`properties` is an object of at least one member; for any members use `map`"
    Place.fault(place, :unknown_type, reason)
  end

  defp require_count(properties, place) do
    if length(properties) > @max_members do
      reason = "more than #{@max_members} members in one object"
      Place.fault(place, :invalid_signature, reason, breaks_limit: true)
    end

    properties
  end

  defp read_listed(nil, _place), do: nil

  defp read_listed(required, place) do
    unless is_list(required) and Enum.all?(required, &is_binary/1) do
      Place.fault(place, :invalid_constraint, "`required` is a list of the names of members")
    end

    MapSet.new(required, &Names.normal/1)
  end

  defp require_names(names, listed, place) do
    for name <- names -- Enum.uniq(names) do
      place |> Place.at("properties") |> Place.fault(:invalid_field_name, "member #{Place.quoted(name)} is named twice")
    end

    for name <- Enum.sort(listed || []), name not in names do
      reason = "#{Place.quoted(name)} is none of the `properties`"
      place |> Place.at("required") |> Place.fault(:invalid_constraint, reason)
    end
  end

  defp read_member(name, spelling, listed, place) do
    wire_name = name |> to_string() |> Names.read(place)
    {type, pairs} = Spellings.open(if(spelling == true, do: %{}, else: spelling), place)
    given = Constraints.sort(pairs)
    type = type |> Words.require_value(place) |> Bounds.constrain(given)
    required? = Presence.required?(%{}, given, place)
    told? = Map.has_key?(given.words, "required")
    required? = if listed, do: agree(wire_name in listed, required?, told?, place), else: required?

    %Field{
      name: wire_name,
      key: if(is_atom(name) and not is_boolean(name), do: name, else: wire_name),
      type: type,
      description: Presence.description("", given),
      required: required? and not Map.has_key?(given.words, "default"),
      default: Presence.default(given, type)
    }
  end

  defp agree(listed?, required?, told?, place) do
    if (listed? and not required?) or (told? and required? and not listed?) do
      Place.fault(place, :invalid_constraint, "the `required` list and the member contradict each other")
    end

    listed?
  end
end
