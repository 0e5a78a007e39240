defmodule DSPexWorker.MigrateTaskTest do
  # The shell is everybody's.
  use ExUnit.Case, async: false

  alias Mix.Tasks.DspexWorker.Migrate

  @before_text """
  defmodule MigrateTask.A do
    use DSPex.Signature
    signature text: :string -> label: :string
  end
  """

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    folder = Path.join(System.tmp_dir!(), "dspex-migrate-#{System.unique_integer([:positive])}")
    File.mkdir_p!(Path.join(folder, "deep"))
    path = Path.join(folder, "deep/a.ex")
    File.write!(path, @before_text)

    on_exit(fn ->
      Mix.shell(shell)
      File.rm_rf!(folder)
    end)

    {:ok, folder: folder, path: path}
  end

  defp shown do
    receive do
      {:mix_shell, :info, [line]} -> line <> "\n" <> shown()
    after
      0 -> ""
    end
  end

  test "rewrites what is below a folder, and shows what changed", %{folder: folder, path: path} do
    Migrate.run([folder])

    assert File.read!(path) =~ "use DSPexWorker.Signature\n  signature do\n    input :text, :string\n"
    assert shown() =~ ~r/- +use DSPex\.Signature.*\+ +use DSPexWorker\.Signature.*1 file was rewritten/s

    Migrate.run([path])
    assert shown() == "Nothing to rewrite\n"
  end

  test "--dry-run shows the same and writes nothing", %{folder: folder, path: path} do
    Migrate.run(["--dry-run", folder])

    assert File.read!(path) == @before_text
    assert shown() =~ "1 file would be rewritten"
  end

  test "--check fails, and writes nothing", %{folder: folder, path: path} do
    assert_raise Mix.Error, ~r/1 file has signatures of DSPex/, fn -> Migrate.run(["--check", folder]) end

    assert File.read!(path) == @before_text
  end

  test "what is left is named with file, line and reason", %{path: path} do
    File.write!(path, String.replace(@before_text, ":string ->", ":strng ->"))
    Migrate.run([path])

    assert shown() =~ "#{path}:3: left as it is: Field text: unknown type `strng`"
  end

  test "a path that does not exist is an error" do
    assert_raise Mix.Error, ~r/no file and no folder/, fn -> Migrate.run(["nowhere"]) end
  end
end
