defmodule DSPexWorkerCompat.Guard do
  @moduledoc false

  # Two modules `DSPex` in one program: which of them runs is chance, and `mix release` refuses both.

  @sentence "dspex_worker_compat and dspex cannot be in one project, for both define DSPex: take one of them out of " <>
              "mix.exs, then run `mix deps.clean dspex`, or use :dspex_worker alone"

  @doc "Raises a `CompileError` where an application `:dspex` can be seen while this one is compiled."
  @spec check!(Macro.Env.t(), [Path.t()]) :: :ok
  def check!(env, folders \\ folders()) do
    if present?(folders), do: raise(CompileError, file: env.file, line: env.line, description: @sentence), else: :ok
  end

  @doc "Whether an application `:dspex` is on the code path, or one of these files exists."
  @spec present?([Path.t()]) :: boolean
  def present?(files), do: loaded?() or Enum.any?(files, &File.exists?/1)

  @doc "Raises where an application `:dspex` was put beside this one after all."
  @spec check_started!() :: :ok
  def check_started!, do: if(loaded?(), do: raise(@sentence), else: :ok)

  defp loaded?, do: :code.lib_dir(:dspex) != {:error, :bad_name}

  # Fetched, or built, by the project that this one is a dependency of.
  defp folders do
    [
      Path.join(Mix.Project.deps_path(), "dspex/mix.exs"),
      Path.join(Mix.Project.build_path(), "lib/dspex/ebin/dspex.app")
    ]
  end
end
