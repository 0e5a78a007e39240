for package <- ~w(amqp jason), do: Code.require_file("support/#{package}.exs", __DIR__)

ExUnit.start(exclude: [:integration], capture_log: true, assert_receive_timeout: 5_000)
