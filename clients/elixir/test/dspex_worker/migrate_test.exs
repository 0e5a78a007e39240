defmodule DSPexWorker.MigrateTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.Migrate

  defp rewrite(source) do
    [outcome] = Migrate.rewrite([{"lib/a.ex", source}])
    {outcome.written, outcome.left}
  end

  defp rewritten(source) do
    assert {written, []} = rewrite(source)
    written
  end

  # What is written compiles, and is a signature.
  defp compiled(source) do
    for {module, _code} <- Code.compile_string(source), into: %{} do
      :code.purge(module)
      :code.delete(module)
      {module |> Module.split() |> List.last(), module}
    end
  end

  describe "a line of DSPex's DSL" do
    test "becomes a block, and its module uses DSPexWorker.Signature" do
      source = """
      defmodule MigrateTest.Line do
        use DSPex.Signature
        @moduledoc "Analyzes sentiment of text"
        signature text: :string -> sentiment: :string, confidence: :float
      end
      """

      assert rewritten(source) == """
             defmodule MigrateTest.Line do
               use DSPexWorker.Signature
               @moduledoc "Analyzes sentiment of text"
               signature do
                 input :text, :string
                 output :sentiment, :string
                 output :confidence, :float
               end
             end
             """

      assert %{"Line" => _module} = source |> rewritten() |> compiled()
    end

    test "may go over several lines, in brackets, with options and comments" do
      source = """
      defmodule MigrateTest.Many do
        use DSPex.Signature, description: "Answers"

        signature(query: {:string, min_length: 2},   # what is asked
                  context: {:list, :string} ->
          answer: :string,
          confidence: :probability
        )

        def more, do: 1
      end
      """

      assert rewritten(source) == """
             defmodule MigrateTest.Many do
               use DSPexWorker.Signature, description: "Answers"

               signature do
                 input :query, :string, min_length: 2
                 input :context, {:list, :string}
                 output :answer, :string
                 output :confidence, :probability
               end

               def more, do: 1
             end
             """
    end

    test "is found in each module of a file" do
      source = """
      defmodule MigrateTest.Two do
        defmodule One do
          use DSPex.Signature
          signature a: :string -> b: :integer
        end

        defmodule Other do
          use DSPex.Signature
          @signature_ast {:->, [], [[{:question, :string}], [{:answer, :string}]]}
        end
      end
      """

      assert %{"One" => _, "Other" => _} = compiled(rewritten(source))
    end

    test "is left in comments, heredocs and strings" do
      source = ~S'''
      defmodule MigrateTest.Doc do
        @moduledoc """
        Write this:

            use DSPex.Signature
            signature text: :string -> sentiment: :string
        """
        # signature text: :string -> sentiment: :string
        def line, do: "signature text: :string -> sentiment: :string"
      end
      '''

      assert rewritten(source) == source
    end

    test "is left where it cannot be understood, with the reason" do
      for {line, reason} <- [
            {"signature text: :strng -> label: :string", "unknown type `strng`"},
            {"signature text: @type -> label: :string", "no literal"},
            {"signature question: :string -> answer: :string, desc: \"reasoning\"", "unknown type"},
            {"signature a: :string -> b: :string -> c: :string", "more than one arrow"}
          ] do
        source = "defmodule MigrateTest.Left do\n  use DSPex.Signature\n  #{line}\nend\n"

        assert {^source, [{3, given}]} = rewrite(source)
        assert given =~ reason
      end
    end

    test "is left where no module says that it is a signature" do
      assert {_source, [{1, "there is no `use DSPex.Signature` before it"}]} =
               rewrite("signature text: :string -> label: :string\n")
    end

    test "of any other kind is Elixir already" do
      for declaration <- [
            ~s|signature "text: :string -> label: :string"|,
            "signature (text: :string -> [label: :string])",
            "signature do\n    input :text, :string\n    output :label, :string\n  end"
          ] do
        source = "defmodule MigrateTest.Other do\n  use DSPex.Signature\n  #{declaration}\nend\n"

        assert rewritten(source) == String.replace(source, "DSPex.", "DSPexWorker.")
      end
    end
  end

  describe "a literal map" do
    test "that is given on as a signature becomes a module with all that the map said" do
      source = """
      defmodule MigrateTest.Direct do
        @moduledoc false

        # Reviews, and “what” they say.
        def create(dspex) do
          dspex.create_program(%{id: "é", signature: %{
            name: "Elixir.MyApp.Review",
            description: "Finds the sentiment of a review",
            inputs: [%{name: "text", type: "string", description: "The review", required: true}],
            outputs: [
              %{name: :sentiment, type: :string, constraints: %{enum: ["positive", "negative"]}},
              %{name: "score", type: "probability", required: false},
              %{name: "tags", type: "List[str]", constraints: [max_items: 3]}
            ]
          }, lm: "fast"})
        end
      end
      """

      assert rewritten(source) == """
             defmodule MigrateTest.Direct do
               @moduledoc false

               defmodule Review do
                 @moduledoc "Finds the sentiment of a review"
                 use DSPexWorker.Signature

                 signature do
                   input :text, :string, desc: "The review"
                   output :sentiment, :string, enum: ["positive", "negative"]
                   output :score, :probability, required: false
                   output :tags, {:list, :string}, max_items: 3
                 end
               end

               # Reviews, and “what” they say.
               def create(dspex) do
                 dspex.create_program(%{id: "é", signature: Review, lm: "fast"})
               end
             end
             """

      assert %{"Review" => _module} = source |> rewritten() |> compiled()
    end

    test "goes on through a variable, with strings as keys, and is one module however often it stands there" do
      create = """
          signature = %{
            "name" => "QuestionAnswer",
            "inputs" => [%{"name" => "question", "type" => "str"}],
            "outputs" => [%{"name" => "answer", "type" => "str"}]
          }
          DSPex.create_program(%{signature: signature})
      """

      source = "defmodule MigrateTest.Var do\n  def one do\n#{create}  end\n\n  def other do\n#{create}  end\nend\n"
      written = rewritten(source)

      assert length(String.split(written, "defmodule QuestionAnswer do")) == 2
      assert length(String.split(written, "signature = QuestionAnswer\n")) == 3
    end

    test "in a script stands before the expression that needs it" do
      source = """
      Mix.install([{:dspex, path: ".."}])

      sentiment = %{inputs: [%{name: "text"}], outputs: [%{name: "label"}]}
      {:ok, id} = DSPex.create_program(%{signature: sentiment})
      """

      assert ["Mix.install([{:dspex, path: \"..\"}])", "", "defmodule Sentiment do" | _more] =
               source |> rewritten() |> String.split("\n")
    end

    test "that a function returns is moved if all callers, in all files, use it as a signature" do
      signatures = """
      defmodule MigrateTest.Signatures do
        def sentiment do
          %{inputs: [%{name: "text"}], outputs: [%{name: "label"}]}
        end
      end
      """

      short =
        "defmodule MigrateTest.Short do\n  def qa, do: %{inputs: [%{name: \"q\"}], outputs: [%{name: \"a\"}]}\nend\n"

      assert rewritten(short) =~ "def qa, do: Qa\n"

      good = "signature = MigrateTest.Signatures.sentiment()\nDSPex.create_program(%{signature: signature})\n"
      bad = "IO.inspect(MigrateTest.Signatures.sentiment().inputs)\n"

      assert [%{left: [], written: written}, %{written: ^good}] =
               Migrate.rewrite([{"a.ex", signatures}, {"b.exs", good}])

      assert written =~ "  def sentiment do\n    Sentiment\n  end\n"

      assert [%{left: [{3, reason}], written: ^signatures}, _bad] =
               Migrate.rewrite([{"a.ex", signatures}, {"b.exs", bad}])

      assert reason =~ "in another file"
    end

    test "is left where more happens to it, or less is known of it, with the reason" do
      map = ~s|%{name: "QA", inputs: [%{name: "q"}], outputs: [%{name: "a"}]}|

      for {source, reason} <- [
            {"sig = #{map}\nIO.puts(sig.name)\nDSPex.create_program(%{signature: sig})",
             "used in another way in line 2"},
            {"IO.inspect(#{map})", "not plain"},
            {"QA.run(%{signature: #{String.replace(map, "QA", "Q")}})\nQ.f()\nQSignature.f()",
             "the name QSignature is taken"},
            {"f(%{signature: #{String.replace(map, "\"q\"", "name()")}})", "no literal"},
            {"f(%{signature: %{inputs: x, outputs: [%{name: \"a\", type: \"string\"}]}})", "no literal"},
            {"f(%{signature: #{String.replace(map, "name: \"q\"", "name: \"q\", type: \"strng\"")}})", "unknown type"},
            {"f(%{signature: #{String.replace(map, "inputs", "version: 1, inputs")}})", "`version` has no place"},
            {"quote do: f(%{signature: #{map}})", "stands in a quote"},
            {"assert f() == %{signature: #{map}}", "stands in a comparison"},
            {"%{signature: #{map}} = f()", "stands in a pattern"},
            {"case f(), do: (%{signature: #{map}} -> 1)", "stands in a pattern"}
          ] do
        assert {^source, [{_line, given}]} = rewrite(source)
        assert given =~ reason
      end
    end

    test "that is a pattern, or no signature, is nothing" do
      for source <- ["%{inputs: inputs, outputs: outputs} = f()", "%{inputs: [1], rows: []}"] do
        assert rewritten(source) == source
      end
    end

    test "of the same name with another meaning is left" do
      one = ~s|f(%{signature: %{name: "QA", inputs: [%{name: "q"}], outputs: [%{name: "a"}]}})|
      other = String.replace(one, ~s|"a"|, ~s|"b"|)

      assert {written, [{2, "another signature is called QA"}]} = rewrite("#{one}\n#{other}\n")
      assert written =~ "signature: QA})"
      assert written =~ ~s|%{name: "b"}|
    end
  end

  test "a file that does not parse is left" do
    assert {"defmodule A do", [{1, "it does not parse"}]} = rewrite("defmodule A do")
  end
end
