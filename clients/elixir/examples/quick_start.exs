# One signature, a few calls. Needs a broker and a worker; with DSPEX_LM_MODEL=offline a worker needs no key.
#
#     AMQP_URL=amqp://localhost mix run examples/quick_start.exs

defmodule QuickStart do
  defmodule Category do
    @moduledoc "Says what kind of message a text is"
    use DSPexWorker.Signature

    signature do
      input :input_text, :string, min_length: 1
      output :category, :string, one_of: ~w(greeting question complaint)
      output :score, :probability
    end
  end

  def run(client) do
    {:ok, result} = DSPexWorker.predict(client, Category, %{input_text: "Hello"})
    IO.puts("#{result.category}, #{result.score}")

    {:error, error} = DSPexWorker.predict(client, Category, %{input_text: ""})
    IO.puts(Exception.message(error))

    {:ok, program} = DSPexWorker.create_program(client, Category)

    client
    |> DSPexWorker.execute_many(program, for(number <- 1..20, do: %{input_text: "Message #{number}"}))
    |> Enum.frequencies_by(fn {:ok, result} -> result.category end)
    |> IO.inspect(label: program.id)
  end
end

namespace = System.get_env("DSPEX_NAMESPACE", "dspex")
{:ok, client} = DSPexWorker.Client.start_link(url: System.fetch_env!("AMQP_URL"), namespace: namespace)
QuickStart.run(client)
GenServer.stop(client)
