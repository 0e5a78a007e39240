defmodule DSPexWorker.Signature.Patterns do
  @moduledoc """
  Regular expressions of the wire contract, which the worker runs in Rust's engine.

  A pattern is read by the rules of that engine: lookaround, backreferences and whatever else it refuses is refused here,
  when the signature is compiled. What it means is then written for `:re`, with every difference between the two engines
  spelled out (`\\w`, `\\s`, `\\b`, `\\v`, `$`, set operations), and compiled with `[:unicode, :ucp, :dollar_endonly]`.
  Where the two cannot agree (`\\p{Emoji}`), or the search would take too long, the text is left for the worker to judge.
  """

  alias DSPexWorker.Signature.Patterns.{Cost, Reader}

  @options [:unicode, :ucp, :dollar_endonly]
  # A search that needs more steps is given up; in the worker's engine it would be linear.
  @most_steps 1_000_000

  @doc """
  Whether the worker's engine takes a pattern, as far as can be told without it.

      iex> DSPexWorker.Signature.Patterns.check("^[A-Z]{2}$")
      :ok

      iex> DSPexWorker.Signature.Patterns.check("(?=a)")
      {:error, "look-around, including look-ahead and look-behind, is not supported"}
  """
  @spec check(String.t()) :: :ok | {:error, String.t()}
  def check(pattern) do
    with {:ok, _translated} <- Reader.read(pattern), do: :ok
  end

  @doc """
  Whether a pattern, one that was accepted before, is found anywhere in a text; true where that is left for the worker.

      iex> DSPexWorker.Signature.Patterns.found?("^\\\\d+$", "12")
      true

      iex> DSPexWorker.Signature.Patterns.found?("^\\\\d+$", "12\\n")
      false
  """
  @spec found?(String.t(), String.t()) :: boolean
  def found?(pattern, text) do
    case compiled(pattern) do
      :unknown -> true
      compiled -> :re.run(text, compiled, [:report_errors, capture: :none, match_limit: @most_steps]) != :nomatch
    end
  end

  @doc "The size of a compiled pattern, in the units that the wire contract limits."
  @spec cost(String.t()) :: non_neg_integer
  defdelegate cost(pattern), to: Cost, as: :of

  defp compiled(pattern) do
    with {:ok, translated} when is_binary(translated) <- Reader.read(pattern),
         {:ok, compiled} <- :re.compile(translated, @options) do
      compiled
    else
      _unknown -> :unknown
    end
  end
end
