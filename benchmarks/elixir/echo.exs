# The other end of both loops: answers each job of a queue with one and the same reply, until stdin is closed.
#
#     elixir -r raw.ex echo.exs EXECUTE_QUEUE

[queue] = System.argv()

body = ~S({"id": null, "success": true, "timestamp": 1795416206.534, "result": {"program_id": null, "is_dynamic": true,
  "outputs": {"sentiment": "positive", "confidence": 0.93}, "fallback_used": false, "fallback_reason": null,
  "usage": {"lm_calls": 1, "prompt_tokens": 180, "completion_tokens": 24, "cost_usd": null}, "attempts": 1,
  "execution_time": 1.84, "signature_fingerprint": "4f82a890d946d869c03ac3865007d9b37fdde47503a5937558bae113bcf9b217",
  "program_version": null, "warnings": []}})

{_connection, channel} = Bench.Raw.open(System.fetch_env!("DSPEX_AMQP_URL"))
spawn_link(fn -> Bench.Raw.echo(channel, queue, body, 1_000) end)
# The consumer is there when the broker has answered the next method.
{:"basic.qos_ok"} = :amqp_channel.call(channel, {:"basic.qos", 0, 1_000, false})
IO.puts("ready")
IO.read(:stdio, :eof)
