defmodule DSPexWorkerCompat.GuardTest do
  use ExUnit.Case, async: true

  alias DSPexWorkerCompat.Guard

  test "beside an application :dspex nothing is compiled, and the error says why" do
    error = assert_raise CompileError, fn -> Guard.check!(__ENV__, [__ENV__.file]) end

    assert error.file == __ENV__.file
    assert Exception.message(error) =~ "dspex_worker_compat and dspex cannot be in one project"
  end

  test "without one it is" do
    assert Guard.check!(__ENV__, ["/nowhere/dspex.app"]) == :ok
    assert Guard.check!(__ENV__) == :ok
    assert Guard.check_started!() == :ok
  end
end
