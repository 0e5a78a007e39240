defmodule DSPexWorker.Transport.ParamsTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.Transport.Params

  defp extra(url, options \\ []) do
    {:ok, params} = Params.parse([url: url] ++ options)
    Params.extra(params)
  end

  test "a URL that ends with a slash means the default virtual host, as one without a path does" do
    for {url, name} <- [{"amqp://h", "/"}, {"amqp://h/", "/"}, {"amqp://h/%2F", "/"}, {"amqp://h/shop", "shop"}] do
      assert extra(url)[:virtual_host] == name
    end
  end

  test "the URL's connection time-out wins over the option" do
    assert extra("amqp://h", connection_timeout: 300)[:connection_timeout] == 300
    assert extra("amqp://h?connection_timeout=700", connection_timeout: 300)[:connection_timeout] == 700
  end

  test "TLS verifies the peer and its name, unless it is told not to" do
    assert extra("amqp://h")[:ssl_options] == :none

    verified = extra("amqps://broker.example")[:ssl_options]
    assert verified[:verify] == :verify_peer
    assert verified[:cacerts] != []
    assert verified[:server_name_indication] == ~c"broker.example"
    assert [match_fun: _function] = verified[:customize_hostname_check]

    own = extra("amqps://h?cacertfile=/ca.pem")[:ssl_options]
    assert {own[:verify], own[:cacertfile], own[:cacerts]} == {:verify_peer, ~c"/ca.pem", nil}

    assert extra("amqps://h", ssl_options: [verify: :verify_none])[:ssl_options][:verify] == :verify_none
    assert extra("amqps://h?verify=verify_none")[:ssl_options][:verify] == :verify_none
  end

  test "a URL that can be read passes the check, with TLS too" do
    for url <- ["amqp://h", "amqp://u:with%40sign@h:5672/shop?heartbeat=5", "amqps://h?verify=verify_peer"] do
      assert Params.check(url) == :ok
    end
  end

  test "an error never holds the URL, whose password is nobody's business" do
    for url <- [
          "http://u:secret@h",
          "amqp://u:secret@h:99999",
          "amqp://u:secret@h/%zz",
          "amqp://u:secret@h?heartbeat=x",
          "amqp://u:with@secret@h",
          "amqp://u:with#secret@h",
          "secret"
        ] do
      assert {:error, reason} = Params.parse(url: url)
      assert Params.check(url) == {:error, reason}
      refute inspect(reason) =~ "secret"
    end
  end
end
