defmodule DSPexWorker.ProjectTest do
  use ExUnit.Case, async: true

  @root Path.expand("../..", __DIR__)

  test "without Hex no package is listed in any environment, so RabbitMQ's own libraries are enough" do
    folder = Path.join(System.tmp_dir!(), "dspex-project-#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm_rf!(folder) end)
    none = [{"MIX_ENV", "prod"}, {"MIX_ARCHIVES", folder}, {"MIX_BUILD_PATH", folder}, {"DSPEX_TEST_HEX", nil}]
    code = "IO.inspect(Mix.Project.config()[:deps], label: :deps)"
    {printed, status} = System.cmd("mix", ["run", "--no-compile", "--no-start", "-e", code], cd: @root, env: none)

    assert {status, String.trim(printed)} == {0, "deps: []"}
  end
end
