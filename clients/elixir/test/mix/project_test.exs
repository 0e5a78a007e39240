defmodule DSPexWorker.ProjectTest do
  use ExUnit.Case, async: true

  @root Path.expand("../..", __DIR__)

  # One that has no Hex, and no package.
  @outside """
  defmodule Outside.MixProject do
    use Mix.Project

    def project, do: [app: :outside, version: "0.1.0", deps: [{:dspex_worker, path: #{inspect(@root)}}]]
    def application, do: [mod: {Outside, []}] ++ listed()

    %{listed}
  end
  """

  @call """
  defmodule Outside do
    use Application

    def start(_type, _arguments) do
      options = [url: System.fetch_env!("AMQP_URL"), namespace: System.fetch_env!("DSPEX_NAMESPACE")]
      {:ok, client} = DSPexWorker.Client.start_link(options)
      IO.inspect(DSPexWorker.predict(client, "text -> label: integer", %{text: "I love it"}), label: :code.get_mode())
      System.halt(0)
    end
  end
  """

  setup do
    folder = Path.join(System.tmp_dir!(), "dspex-project-#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)

    {:ok,
     folder: folder,
     environment: [
       {"MIX_ENV", "prod"},
       {"MIX_ARCHIVES", folder},
       {"MIX_BUILD_PATH", folder <> "/_build"},
       # Mix leaves files there.
       {"TMPDIR", folder},
       {"DSPEX_TEST_HEX", nil}
     ]}
  end

  test "without Hex no package is listed in any environment, so RabbitMQ's own libraries are enough", context do
    code = "IO.inspect(Mix.Project.config()[:deps], label: :deps)"

    {printed, status} =
      System.cmd("mix", ["run", "--no-compile", "--no-start", "-e", code], cd: @root, env: context.environment)

    assert {status, String.trim(printed)} == {0, "deps: []"}
  end

  test "without any AMQP library, what is said names the line that a project needs" do
    ebin = Application.app_dir(:dspex_worker, "ebin")
    arguments = ["-pa", ebin, "-e", "DSPexWorker.Transport.default()"]
    {printed, 1} = System.cmd("elixir", arguments, env: [{"ERL_LIBS", nil}], stderr_to_stdout: true)

    assert printed =~ "list :amqp_client in extra_applications of your mix.exs"
  end

  @tag timeout: 300_000
  test "an application that is made of the README's lines passes the README's test, without a broker", context do
    %{folder: folder, environment: environment} = context
    readme = File.read!(Path.join(@root, "README.md"))
    block = fn start -> ~r/(?<=```elixir\n)#{start}.*?(?=```)/s |> Regex.run(readme) |> hd() end

    for {path, text} <- [
          {"mix.exs", project_of(block.("def deps do\n"), block.("def application do\n"))},
          {"config/runtime.exs", block.("# config/runtime.exs\n")},
          {"lib/my_app.ex", block.("defmodule MyApp.Sentiment do\n") <> block.("defmodule MyApp.Application do\n")},
          {"test/test_helper.exs", "ExUnit.start()\n"},
          {"test/sentiment_test.exs", block.("defmodule MyApp.SentimentTest do\n")}
        ] do
      File.mkdir_p!(Path.dirname(Path.join(folder, path)))
      File.write!(Path.join(folder, path), text)
    end

    environment = [{"MIX_ENV", "test"}, {"AMQP_URL", nil} | List.keydelete(environment, "MIX_ENV", 0)]
    {printed, status} = System.cmd("mix", ["test"], cd: folder, env: environment, stderr_to_stdout: true)

    assert status == 0, printed
    assert printed =~ "1 test, 0 failures"
  end

  # The packages are RabbitMQ's here, as the README says; without Hex the others cannot be fetched.
  defp project_of(deps, application) do
    [own] = Regex.run(~r/\{:dspex_worker, path: "[^"]+"\}/, deps)
    assert own == ~s({:dspex_worker, path: "clients/elixir"})

    """
    defmodule MyApp.MixProject do
      use Mix.Project

      def project, do: [app: :my_app, version: "0.1.0", deps: [{:dspex_worker, path: #{inspect(@root)}}]]
      def application, do: [mod: {MyApp.Application, []}] ++ listed()

      #{String.replace(application, "def application", "defp listed")}
    end
    """
  end

  @tag :integration
  @tag timeout: 300_000
  test "a project of somebody else calls a worker with RabbitMQ's own libraries, as it is and as a release", context do
    %{folder: folder, environment: environment} = context
    [listed] = Regex.run(~r/(?<=```elixir\n)def application do\n.*?(?=```)/s, File.read!(Path.join(@root, "README.md")))
    listed = String.replace(listed, "def application", "defp listed")
    File.write!(folder <> "/mix.exs", String.replace(@outside, "%{listed}", listed))
    File.mkdir!(folder <> "/lib")
    File.write!(folder <> "/lib/outside.ex", @call)

    assert {ran, 0} = System.cmd("mix", ["run"], cd: folder, env: environment, stderr_to_stdout: true)
    assert ran =~ ~r/^interactive: {:ok, %{"label" => \d+}}$/m

    release = ["release", "--quiet", "--path", folder <> "/release"]
    assert {_printed, 0} = System.cmd("mix", release, cd: folder, env: environment, stderr_to_stdout: true)
    # It has copies of what it needs, and is nobody's node.
    alone = [{"ERL_LIBS", nil}, {"RELEASE_DISTRIBUTION", "none"}]
    assert {ran, 0} = System.cmd(folder <> "/release/bin/outside", ["start"], env: alone, stderr_to_stdout: true)
    assert ran =~ ~r/^embedded: {:ok, %{"label" => \d+}}$/m
  end
end
