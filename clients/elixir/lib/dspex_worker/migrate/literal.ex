defmodule DSPexWorker.Migrate.Literal do
  @moduledoc false

  # The value of quoted code that holds nothing but literals. Nothing is evaluated.

  @doc "`{:ok, value}`, or `:error` where there is a variable, a call or an interpolation."
  @spec value(Macro.t()) :: {:ok, term} | :error
  def value(quoted) do
    {:ok, read(quoted)}
  catch
    :not_literal -> :error
  end

  @doc "A literal without the wrapper that `:literal_encoder` puts around it."
  @spec unwrap(Macro.t()) :: Macro.t()
  def unwrap({:__block__, _meta, [inner]}), do: inner
  def unwrap(other), do: other

  defp read({:__block__, _meta, [inner]}), do: read(inner)
  defp read(literal) when is_atom(literal) or is_number(literal) or is_binary(literal), do: literal
  defp read(items) when is_list(items), do: Enum.map(items, &read/1)
  defp read({one, other}), do: {read(one), read(other)}
  defp read({:{}, _meta, items}), do: items |> Enum.map(&read/1) |> List.to_tuple()
  defp read({:%{}, _meta, pairs}), do: Map.new(pairs, &pair/1)
  defp read({:-, _meta, [number]}), do: negative(read(number))
  defp read({:sigil_w, _meta, [{:<<>>, _text_meta, [text]}, letters]}), do: words(String.split(text), letters)
  defp read(_code), do: throw(:not_literal)

  defp pair({key, value}), do: {read(key), read(value)}
  defp pair(_update), do: throw(:not_literal)

  defp negative(number) when is_number(number), do: -number
  defp negative(_other), do: throw(:not_literal)

  # The words stand in the program's own source, so they may become atoms.
  defp words(words, ~c"a"), do: Enum.map(words, &String.to_atom/1)
  defp words(words, letters) when letters in [~c"", ~c"s"], do: words
  defp words(_words, _letters), do: throw(:not_literal)
end
