defmodule DSPexWorker.Signature.Patterns.Sets do
  @moduledoc false
  # Characters and sets of characters: what an escape of Rust's `regex` stands for, and how PCRE spells it.

  alias DSPexWorker.Signature.Patterns.Reader

  # Alphabetic, marks, decimal digits, connectors and joiners; PCRE's own \w lacks the marks.
  @word "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}" <>
          "\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
  @space "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
  @digit "\\p{Nd}"
  @perl %{?w => @word, ?s => @space, ?d => @digit}
  @control %{?a => 0x07, ?f => 0x0C, ?t => 0x09, ?n => 0x0A, ?r => 0x0D, ?v => 0x0B}
  @hex %{?x => 2, ?u => 4, ?U => 8}
  @categories %{
    "any" => :any,
    "assigned" => :unknown,
    "ascii" => :ascii,
    "casedletter" => "\\p{Lu}\\p{Ll}\\p{Lt}",
    "lc" => "\\p{Lu}\\p{Ll}\\p{Lt}",
    "letter" => "\\p{L}",
    "uppercaseletter" => "\\p{Lu}",
    "lowercaseletter" => "\\p{Ll}",
    "titlecaseletter" => "\\p{Lt}",
    "modifierletter" => "\\p{Lm}",
    "otherletter" => "\\p{Lo}",
    "mark" => "\\p{M}",
    "nonspacingmark" => "\\p{Mn}",
    "spacingmark" => "\\p{Mc}",
    "enclosingmark" => "\\p{Me}",
    "number" => "\\p{N}",
    "decimalnumber" => "\\p{Nd}",
    "letternumber" => "\\p{Nl}",
    "othernumber" => "\\p{No}",
    "punctuation" => "\\p{P}",
    "connectorpunctuation" => "\\p{Pc}",
    "dashpunctuation" => "\\p{Pd}",
    "openpunctuation" => "\\p{Ps}",
    "closepunctuation" => "\\p{Pe}",
    "initialpunctuation" => "\\p{Pi}",
    "finalpunctuation" => "\\p{Pf}",
    "otherpunctuation" => "\\p{Po}",
    "symbol" => "\\p{S}",
    "mathsymbol" => "\\p{Sm}",
    "currencysymbol" => "\\p{Sc}",
    "modifiersymbol" => "\\p{Sk}",
    "othersymbol" => "\\p{So}",
    "separator" => "\\p{Z}",
    "spaceseparator" => "\\p{Zs}",
    "lineseparator" => "\\p{Zl}",
    "paragraphseparator" => "\\p{Zp}",
    "other" => "\\p{C}",
    "control" => "\\p{Cc}",
    "format" => "\\p{Cf}",
    "privateuse" => "\\p{Co}",
    "whitespace" => @space
  }
  @short ~w(L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co)
  @by_name Map.merge(@categories, Map.new(@short, &{String.downcase(&1), "\\p{#{&1}}"}))
  @ascii %{
    "alnum" => "0-9A-Za-z",
    "alpha" => "A-Za-z",
    "ascii" => "\\x{0}-\\x{7F}",
    "blank" => "\\x{9}\\x{20}",
    "cntrl" => "\\x{0}-\\x{1F}\\x{7F}",
    "digit" => "0-9",
    "graph" => "\\x{21}-\\x{7E}",
    "lower" => "a-z",
    "print" => "\\x{20}-\\x{7E}",
    "punct" => "\\x{21}-\\x{2F}\\x{3A}-\\x{40}\\x{5B}-\\x{60}\\x{7B}-\\x{7E}",
    "space" => "\\x{9}-\\x{D}\\x{20}",
    "upper" => "A-Z",
    "word" => "0-9A-Za-z_",
    "xdigit" => "0-9A-Fa-f"
  }

  @typedoc "A character, or the inside of a PCRE class and whether it is negated."
  @type item :: {:character, char} | {:set, String.t(), boolean} | :unknown

  def word, do: "[#{@word}]"
  def any, do: "[\\x{0}-\\x{10FFFF}]"
  def literal(character), do: "\\x{#{Integer.to_string(character, 16)}}"

  @spec written(item) :: String.t() | :unknown
  def written(:unknown), do: :unknown
  def written({:character, character}), do: literal(character)
  def written({:set, inside, false}), do: "[#{inside}]"
  def written({:set, inside, true}), do: "[^#{inside}]"

  @doc "The set of a name such as `alpha` in `[:alpha:]`, or nil."
  def ascii(name, negated?) do
    if inside = @ascii[name], do: {:set, inside, negated?}
  end

  @doc "What stands behind a backslash, inside a class or outside."
  @spec escape(String.t()) :: {item, String.t()}
  def escape(<<kind, rest::binary>>) when kind in ~c"wsd", do: {{:set, @perl[kind], false}, rest}
  def escape(<<kind, rest::binary>>) when kind in ~c"WSD", do: {{:set, @perl[kind + 32], true}, rest}
  def escape(<<kind, rest::binary>>) when kind in ~c"pP", do: property(rest, kind == ?P)
  def escape(<<kind, rest::binary>>) when is_map_key(@hex, kind), do: hexadecimal(rest, @hex[kind])
  def escape(<<kind, rest::binary>>) when is_map_key(@control, kind), do: {{:character, @control[kind]}, rest}
  def escape(<<digit, _::binary>>) when digit in ?0..?9, do: Reader.refuse("backreferences are not supported")

  def escape(<<mark, rest::binary>>)
      when mark < 128 and mark not in ?a..?z and mark not in ?A..?Z and mark not in ~c"<>" do
    {{:character, mark}, rest}
  end

  def escape(""), do: Reader.refuse("incomplete escape sequence, reached end of pattern prematurely")
  def escape(_other), do: Reader.refuse("unrecognized escape sequence")

  defp hexadecimal("{" <> rest, _digits) do
    case String.split(rest, "}", parts: 2) do
      ["", _rest] -> Reader.refuse("hexadecimal literal empty")
      [digits, rest] -> {character(digits), rest}
      [_digits] -> Reader.refuse("incomplete escape sequence, reached end of pattern prematurely")
    end
  end

  defp hexadecimal(rest, count) when byte_size(rest) >= count do
    <<digits::binary-size(count), rest::binary>> = rest
    {character(digits), rest}
  end

  defp hexadecimal(_rest, _digits), do: Reader.refuse("incomplete escape sequence, reached end of pattern prematurely")

  defp character(digits) do
    if not (digits =~ ~r/\A[0-9A-Fa-f]+\z/), do: Reader.refuse("invalid hexadecimal digit")

    case String.to_integer(digits, 16) do
      code when code > 0x10FFFF or code in 0xD800..0xDFFF ->
        Reader.refuse("hexadecimal literal is not a Unicode scalar value")

      code ->
        {:character, code}
    end
  end

  defp property("{" <> rest, negated?) do
    case String.split(rest, "}", parts: 2) do
      [name, rest] -> {named(name, negated?), rest}
      [_name] -> Reader.refuse("incomplete escape sequence, reached end of pattern prematurely")
    end
  end

  defp property(<<letter::utf8, rest::binary>>, negated?), do: {named(<<letter::utf8>>, negated?), rest}
  defp property("", _negated?), do: Reader.refuse("incomplete escape sequence, reached end of pattern prematurely")

  defp named(name, negated?) do
    if name =~ ~r/\A[\^!]|\A\z/, do: Reader.refuse("Unicode property not found")

    case Regex.run(~r/\A(.*?)(!=|=|:)(.*)\z/su, name) do
      nil -> category_or_script(name, negated?)
      [_whole, kind, mark, value] -> by_kind(plain(kind), value, negated? != (mark == "!="))
    end
  end

  defp by_kind(kind, value, negated?) when kind in ~w(gc generalcategory), do: category(value, negated?) || :unknown
  defp by_kind(kind, value, negated?) when kind in ~w(sc script), do: script(value, negated?)
  defp by_kind(_kind, _value, _negated?), do: :unknown

  defp category_or_script(name, negated?), do: category(name, negated?) || script(name, negated?)

  defp category(name, negated?) do
    case @by_name[plain(name)] do
      nil -> nil
      :unknown -> :unknown
      :any -> {:set, "\\x{0}-\\x{10FFFF}", negated?}
      :ascii -> {:set, "\\x{0}-\\x{7F}", negated?}
      inside -> {:set, inside, negated?}
    end
  end

  # PCRE knows most scripts, under the same names; what it does not know is left for the worker.
  defp script(name, negated?) do
    spelled = name |> String.split(["_", " ", "-"]) |> Enum.map_join("_", &String.capitalize/1)

    if spelled =~ ~r/\A[A-Za-z_]+\z/ and match?({:ok, _}, :re.compile("\\p{#{spelled}}", [:unicode])) do
      {:set, "\\p{#{spelled}}", negated?}
    else
      :unknown
    end
  end

  defp plain(name), do: name |> String.downcase() |> String.replace(["_", " ", "-"], "") |> without_is()

  defp without_is("is" <> name), do: name
  defp without_is(name), do: name
end
