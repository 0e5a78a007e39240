defmodule DSPexWorker.Signature.Numbers do
  @moduledoc false
  # Numbers as the decimals that JSON writes: 0.1 is one tenth, not its nearest binary float.

  import Bitwise

  @exact_float 2 ** 53

  @typedoc "Numerator and denominator, reduced; the denominator is positive."
  @type fraction :: {integer, pos_integer}

  @spec fraction(number) :: fraction
  def fraction(number) when is_integer(number), do: {number, 1}

  def fraction(number) when is_float(number) do
    case decimal(number) do
      {mantissa, exponent} when exponent >= 0 -> {mantissa * Integer.pow(10, exponent), 1}
      {mantissa, exponent} -> reduced(mantissa, Integer.pow(10, -exponent))
    end
  end

  @spec multiple?(number, number) :: boolean
  def multiple?(number, step) do
    {above, below} = fraction(number)
    {step_above, step_below} = fraction(step)
    rem(above * step_below, below * step_above) == 0
  end

  @doc "Whether a multiple of a step lies between two numbers."
  @spec multiple_between?(number, number, number) :: boolean
  def multiple_between?(step, low, high) do
    {step_above, step_below} = fraction(step)
    {low_above, low_below} = fraction(low)
    {high_above, high_below} = fraction(high)
    first = -Integer.floor_div(-(low_above * step_below), low_below * step_above)
    first * step_above * high_below <= high_above * step_below
  end

  @doc "The nearest float of an integer, or `:error` beyond the range of floats."
  @spec to_float(number) :: {:ok, float} | :error
  def to_float(number) when is_float(number), do: {:ok, number + 0.0}
  def to_float(number) when number in -@exact_float..@exact_float, do: {:ok, number * 1.0}

  def to_float(number) do
    # Read from its digits, which rounds once; arithmetic on big integers rounds at each of their words.
    case Float.parse("#{number}.0") do
      {float, ""} -> {:ok, float}
      _none -> :error
    end
  rescue
    ArgumentError -> :error
  end

  @doc "The next float above; `:infinity` above the greatest."
  @spec next_up(float) :: float | :infinity
  def next_up(number) when number == 0, do: 5.0e-324
  def next_up(number), do: step_bits(number, if(number > 0, do: 1, else: -1))

  @doc "The next float below; `:infinity` (of the other sign) below the lowest."
  @spec next_down(float) :: float | :infinity
  def next_down(number) when number == 0, do: -5.0e-324
  def next_down(number), do: step_bits(number, if(number > 0, do: -1, else: 1))

  defp step_bits(number, step) do
    <<bits::64>> = <<number::float>>

    case <<bits + step &&& 0xFFFFFFFFFFFFFFFF::64>> do
      <<next::float>> -> next
      _not_finite -> :infinity
    end
  end

  defp decimal(number) do
    {digits, exponent} =
      case :binary.split(:erlang.float_to_binary(number, [:short]), "e") do
        [digits] -> {digits, 0}
        [digits, exponent] -> {digits, String.to_integer(exponent)}
      end

    [whole, part] = :binary.split(digits, ".")
    {String.to_integer(whole <> part), exponent - byte_size(part)}
  end

  defp reduced(above, below) do
    divisor = Integer.gcd(above, below)
    {div(above, divisor), div(below, divisor)}
  end
end
