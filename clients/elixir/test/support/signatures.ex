defmodule DSPexWorker.TestSignatures do
  @moduledoc false

  defmodule Sentiment do
    @moduledoc "Detects the sentiment of a text"
    use DSPexWorker.Signature

    signature do
      input :text, :string, desc: "Text to analyse", min_length: 1
      output :sentiment, :string, one_of: ~w(positive negative neutral)
      output :confidence, :probability
    end
  end

  defmodule Question do
    @moduledoc false
    use DSPexWorker.Signature

    signature "question: string -> answer: string"
  end
end
