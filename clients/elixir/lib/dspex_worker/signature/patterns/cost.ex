defmodule DSPexWorker.Signature.Patterns.Cost do
  @moduledoc false
  # Estimates the size of a compiled pattern: 1 per character, 4 per `.`, 35 per `\d`, 400 per `\w`, times repetitions.

  @wide 400
  @digit 35
  @class 4
  @most 1_000_000_000
  @free ~w(* + ? | ^ $)

  @spec of(String.t()) :: non_neg_integer
  def of(pattern) do
    # Comments could hide anything.
    if pattern =~ ~r/\(\?[a-zA-Z-]*x/, do: @most, else: scan(pattern, [0], 0)
  end

  defp scan("", groups, _last), do: min(Enum.sum(groups), @most)

  defp scan(rest, groups, last) do
    mark = token(rest)
    rest = cut(rest, mark)
    take(mark, rest, groups, last)
  end

  defp take("(", rest, groups, _last), do: scan(rest, [0 | groups], 0)
  defp take(")", rest, [last, group | groups], _last), do: scan(rest, [add(group, last) | groups], last)

  defp take("{" <> _ = mark, rest, groups, last) do
    times = Enum.max([1 | Enum.map(Regex.scan(~r/\d+/, mark), fn [digits] -> number(digits) end)])
    scan(rest, add_to(groups, last * (times - 1)), min(last * times, @most))
  end

  defp take("[", rest, groups, _last) do
    {inside, rest} = class(rest, 0, 1, rest)
    cost = class_cost(inside)
    scan(rest, add_to(groups, cost), cost)
  end

  defp take(mark, rest, groups, last) when mark in @free, do: scan(rest, groups, last)

  defp take(mark, rest, groups, _last) do
    cost = atom_cost(mark)
    scan(rest, add_to(groups, cost), cost)
  end

  defp token(rest) do
    [mark] =
      Regex.run(
        ~r/\A(?:\\[pP](?:\{[^}]*\}|.)?|\\[wW]|\\[dDsSbB]|\\x\{[^}]*\}|\\u\{[^}]*\}|\\U\{[^}]*\}|\\.|\{\s*\d*\s*(?:,\s*\d*\s*)?\}|.)/su,
        rest
      )

    mark
  end

  defp cut(text, mark), do: binary_part(text, byte_size(mark), byte_size(text) - byte_size(mark))

  defp number(digits), do: digits |> String.slice(0, 10) |> String.to_integer()

  defp add_to([group | groups], cost), do: [add(group, cost) | groups]
  defp add(one, other), do: min(one + other, @most)

  # Brackets may stand inside brackets.
  defp class(rest, size, depth, all) when rest == "" or depth == 0 do
    {binary_part(all, 0, size), binary_part(all, size, byte_size(all) - size)}
  end

  defp class("\\" <> rest, size, depth, all) do
    skipped = byte_size(String.slice(rest, 0, 1))
    class(binary_part(rest, skipped, byte_size(rest) - skipped), size + 1 + skipped, depth, all)
  end

  defp class(<<mark::utf8, rest::binary>>, size, depth, all) do
    first? = binary_part(all, 0, size) in ["", "^"]

    depth =
      cond do
        mark == ?[ -> depth + 1
        mark == ?] and not first? -> depth - 1
        true -> depth
      end

    class(rest, size + byte_size(<<mark::utf8>>), depth, all)
  end

  defp class_cost(inside) do
    wide = count(inside, ["\\w", "\\W", "\\p", "\\P"])
    digits = count(inside, ["\\d", "\\D"]) + 10 * count(inside, ["[:"])
    open? = String.contains?(inside, ["^", "\\"]) or inside =~ ~r/[^\x00-\x7F]/
    1 + @wide * wide + @digit * digits + if(open?, do: 2 * @class, else: 0)
  end

  defp count(text, marks), do: text |> :binary.matches(marks) |> length()

  defp atom_cost(<<"\\", kind, _::binary>>) when kind in ~c"wWpP", do: @wide
  defp atom_cost(mark) when mark in ["\\d", "\\D"], do: @digit
  defp atom_cost(mark) when mark in [".", "\\s", "\\S", "\\b", "\\B"], do: @class
  defp atom_cost(_mark), do: 1
end
