defmodule DSPexWorker.Client do
  @moduledoc """
  One connection to the workers of a namespace, for a supervision tree.

      children = [{DSPexWorker.Client, name: MyApp.LLM, url: System.fetch_env!("AMQP_URL")}]

  One client carries thousands of calls at once; the functions of `DSPexWorker` take its name or pid. It starts without
  waiting for the broker, and connects again for as long as it runs: calls wait meanwhile, and those that were sent
  already are sent again under the same message id, so that a worker answers from its store what has run.

  ## Options

  | option | default | meaning |
  |---|---|---|
  | `:name` | none | how callers find it |
  | `:url` | required | `amqp://user:password@host/vhost` or `amqps://…`, or a function that returns it |
  | `:namespace` | `"dspex"` | the workers' `DSPEX_NAMESPACE` |
  | `:timeout` | `60_000` | milliseconds a call waits when it does not say, or `:infinity`; goes along as the job's deadline |
  | `:fallback` | `:never` | what `DSPexWorker.predict/4` and others send unless told |
  | `:requires_worker` | `true` | whether consumers are asked for before jobs are sent: without, jobs are sent whoever consumes |
  | `:no_worker` | `:fail` | what a call does where nobody consumes its queue, when it does not say: see below |
  | `:reply_queue` | none | a name: replies come through the durable queue `<namespace>.reply.<name>`, not by direct reply-to; users of least rights, and all where the workers keep tenants apart, name it after their broker user: `user` or `user.…` |
  | `:reply_expires` | `3_600_000` | milliseconds without a consumer after which the broker deletes that queue |
  | `:user_id` | none | the broker user's name, where the workers keep tenants apart |
  | `:transport` | what is loaded | see `DSPexWorker.Transport` |
  | `:json` | what is loaded | see `DSPexWorker.JSON` |
  | `:ssl_options` | `[]` | for `amqps://`; the peer is verified with the system's CAs unless told otherwise |
  | `:connection_name` | `"<namespace> client"` | shown on the broker's management page |
  | `:connection_timeout` | `10_000` | milliseconds |
  | `:backoff` | `{100, 5_000}` | milliseconds to the first attempt to connect again, and the most between two; jittered |
  | `:max_body_bytes` | `16_777_216` | larger requests are `:body_too_large` without being sent |

  A durable reply queue outlives the connection, so a reply that is on its way when the connection breaks is not lost.
  Only one client may consume it: give each node a name of its own. A broker user of least rights may only use names
  that start with its own, `"<user>"` or `"<user>.…"`.

  ## The password

  Neither state nor log of a client shows the URL. But with `handle_sasl_reports: true`, `:logger` prints what supervisors
  start their children with. A function, as `url: fn -> System.fetch_env!("AMQP_URL") end`, keeps the URL out of that;
  `amqp_client`'s own supervisors still report the password. The function is called when the client is started, and for
  each connection, so it may also return a password that changes.

  A URL that cannot be read fails the start of the client. Why a broker cannot be reached, or does not let the client in,
  is in its log, in `status/1`, and in the `:connection` errors of calls that waited for it.

  ## Callers that end

  A call whose process ends, or whose client is stopped, is not waited for any more, and not sent if it was not sent yet.
  If it was, the job runs in its time: under the same `:message_id` another call gets what it gave, and
  `DSPexWorker.cancel/3` stops it.

  ## No worker

  A durable queue takes jobs although nobody consumes it. So a client asks for the consumers of a queue before its first
  job on a connection and after a time-out. If there is none, the call fails with `:no_worker`, and the next one asks
  again.

  An autoscaler that starts workers by the length of the queue, from zero, would then never start one: the queue stays
  empty. With `no_worker: {:wait, 120_000}`, for a client or a call, the job is sent anyway, and its time-out and deadline
  are extended by as many milliseconds, so that a worker has time to start. A queue that does not exist yet is waited for
  as long; then the call fails with `:no_worker`.
  """

  use GenServer

  require Logger

  alias DSPexWorker.Client.{Confirms, Connection, Options}
  alias DSPexWorker.Error
  alias DSPexWorker.Transport.Message

  @registry DSPexWorker.Registry

  # A job that the broker closes the channel for this often is not sent again.
  @strikes 3
  # Workers may come back later than this client after the broker was away.
  @grace 5_000
  @ask_again 200
  @give_up 1_000

  @typedoc "A client's name or pid."
  @type t :: GenServer.server()

  defmodule Call do
    @moduledoc false
    # Inputs are the application's, and none of a crash report's business.
    @derive {Inspect, except: [:message]}
    #
    # `ends` is what a call waits for: its reply, or only the broker's confirm. `wait` is for how many milliseconds more it
    # waits where nobody consumes its queue, and `until`, once that was seen, when it no longer waits for the queue itself.
    defstruct [:from, :message, :monitor, :timer, :until, wait: nil, ends: :reply, sent?: false, strikes: 0]
  end

  defstruct [
    :config,
    :transport,
    :connection,
    :connection_options,
    :replies,
    :prefix,
    :link,
    :ref,
    :reason,
    :up_since,
    state: :down,
    links: 0,
    number: 0,
    # Correlation id → call, for every call that waits.
    calls: %{},
    # Ids of calls that are not published on this link, because it is down or blocked, or its workers are asked for.
    unsent: %{},
    # Queue → :seen | :asking, on this link.
    workers: %{},
    # Queue → ids whose time is up, until its consumers are counted.
    overdue: %{},
    # Queue → timer of the next look for its consumers.
    looks: %{},
    confirms: %Confirms{}
  ]

  @doc "Starts a client; options as above."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    parsed = Options.parse(options)
    GenServer.start_link(__MODULE__, parsed, if(options[:name], do: [name: options[:name]], else: []))
  end

  @doc "A child specification; its id is the client's name, so one supervisor takes several."
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(options) do
    %{id: Keyword.get(options, :name, __MODULE__), start: {__MODULE__, :start_link, [options]}, shutdown: 10_000}
  end

  @doc """
  What a client is doing: `connection` is `:up`, `:down` or `:blocked`, `in_flight` counts the calls that wait. While it
  is down, `reason` says why, once an attempt to connect has failed.

  For health checks; it asks the client, not the broker.
  """
  @spec status(t) :: %{
          required(:connection) => :up | :down | :blocked,
          required(:in_flight) => non_neg_integer,
          optional(:reason) => String.t()
        }
  def status(client), do: GenServer.call(client, :status)

  @doc false
  @spec config(t) :: {:ok, map} | {:error, Error.t()}
  def config(client) do
    with pid when is_pid(pid) <- GenServer.whereis(client),
         [{^pid, config}] <- Registry.lookup(@registry, pid) do
      {:ok, config}
    else
      nil -> {:error, closed("No client #{inspect(client)} is running")}
      _remote -> ask(client, :config)
    end
  end

  @doc false
  # `how` has the `timeout`, what to do where there is `no_worker`, and whether the call `ends` with its `:reply`, which is
  # returned with its headers, or with the broker's `:confirm`.
  @spec request(t, Message.t(), map) :: {:ok, {binary, map} | :confirmed} | {:error, Error.t()}
  def request(client, %Message{} = message, how) do
    case ask(client, {:request, message, how}) do
      {:error, %Error{code: :closed} = error} -> {:error, %{error | details: %{message_id: message.message_id}}}
      answer -> answer
    end
  end

  defp ask(client, what) do
    GenServer.call(client, what, :infinity)
  catch
    :exit, {reason, {GenServer, :call, _args}} -> {:error, closed("The client is not running: #{exit_name(reason)}")}
    :exit, reason -> {:error, closed("The client is not running: #{exit_name(reason)}")}
  end

  defp exit_name(reason) when is_atom(reason), do: Atom.to_string(reason)
  defp exit_name({reason, _more}) when is_atom(reason), do: Atom.to_string(reason)
  defp exit_name(_reason), do: "it ended"

  @impl GenServer
  def init({config, connection_options, replies}) do
    Process.flag(:trap_exit, true)
    config = %{config | client: config.client || self()}
    {:ok, _owner} = Registry.register(@registry, self(), config)

    state = %__MODULE__{
      config: config,
      transport: config.transport,
      connection_options: connection_options,
      replies: replies,
      # Replies to an earlier client with the same reply queue must not match.
      prefix: Base.url_encode64(:crypto.strong_rand_bytes(12), padding: false)
    }

    {:ok, connect(state)}
  end

  @impl GenServer
  def handle_call({:request, message, how}, from, state), do: {:noreply, accept(state, message, how, from)}

  def handle_call({:linked, ref, link}, _from, state), do: {:reply, :ok, %{state | ref: ref, link: link}}
  def handle_call(:config, _from, state), do: {:reply, {:ok, state.config}, state}

  def handle_call(:status, _from, state) do
    {:reply, Map.merge(why(state), %{connection: state.state, in_flight: map_size(state.calls)}), state}
  end

  @impl GenServer
  def handle_info({:timeout, id}, state), do: {:noreply, overdue(state, id)}
  def handle_info({:give_up, id}, state), do: {:noreply, fail(state, id, &timed_out/1)}
  def handle_info({{:caller_ended, id}, _monitor, :process, _pid, _reason}, state), do: {:noreply, drop(state, id)}
  def handle_info({:link_up, ref}, %{ref: ref} = state), do: {:noreply, up(state)}
  def handle_info({:link_down, ref, reason}, %{ref: ref} = state), do: {:noreply, down(state, reason)}
  def handle_info({:no_link, reason}, state), do: {:noreply, %{state | reason: reason}}
  def handle_info({:ask, ref, queue}, %{ref: ref} = state), do: {:noreply, count(state, queue)}

  def handle_info({:consumers, ref, queue, answer}, %{ref: ref} = state) do
    {:noreply, consumers(state, queue, answer)}
  end

  def handle_info({:EXIT, connection, reason}, %{connection: connection} = state) do
    {:noreply, state |> down(reason) |> connect()}
  end

  def handle_info(_stray, %{connection: nil} = state), do: {:noreply, state}
  def handle_info(message, state), do: {:noreply, event(state.transport.event(message), state)}

  @impl GenServer
  def terminate(_reason, state) do
    for {_id, call} <- state.calls do
      GenServer.reply(call.from, {:error, closed("The client was stopped before the reply came")})
    end

    if state.link, do: close(state.connection)
  end

  # Calls

  defp accept(state, message, how, from) do
    id = "#{state.prefix}.#{state.number}"

    call = %Call{
      from: from,
      message: address(state, message, id, how.ends),
      monitor: monitor(id, from),
      timer: timer(id, how.timeout),
      wait: wait(how.no_worker),
      ends: how.ends
    }

    offer(%{state | number: state.number + 1}, id, call)
  end

  defp wait(:fail), do: nil
  defp wait({:wait, ms}), do: ms

  # Its reply, if there is one, goes to who knows the job by its message id alone.
  defp address(_state, message, _id, :confirm), do: %{message | correlation_id: message.message_id}

  defp address(%{replies: :direct}, message, id, :reply) do
    %{message | correlation_id: id, reply_to: Message.direct_reply_to()}
  end

  defp address(%{replies: {:queue, name, _expires}}, message, id, :reply) do
    %{message | correlation_id: id, reply_to: name}
  end

  # `Process.monitor/2` takes no tag before Elixir 1.15.
  defp monitor(id, {caller, _tag}), do: :erlang.monitor(:process, caller, tag: {:caller_ended, id})

  defp timer(_id, :infinity), do: nil
  defp timer(id, timeout), do: Process.send_after(self(), {:timeout, id}, timeout)

  # Publishes a call, or keeps it until that is possible.
  defp offer(%{state: :up} = state, id, call) do
    if free?(state, call),
      do: publish(state, id, call),
      else: state |> keep(id, call) |> ask_for_workers(call.message.queue)
  end

  defp offer(state, id, call), do: keep(state, id, call)

  # A call that was sent before is sent again, whoever consumes its queue by now.
  defp free?(state, call) do
    call.sent? or not state.config.requires_worker or state.workers[call.message.queue] == :seen
  end

  defp keep(state, id, call) do
    %{state | calls: Map.put(state.calls, id, call), unsent: Map.put(state.unsent, id, [])}
  end

  defp publish(state, id, call) do
    case state.transport.publish(state.link, Message.sent_at(call.message, System.system_time(:millisecond))) do
      :ok ->
        %{
          state
          | calls: Map.put(state.calls, id, %{call | sent?: true}),
            unsent: Map.delete(state.unsent, id),
            confirms: Confirms.add(state.confirms, id)
        }

      # The link is about to go down, or blocked: it tells so itself.
      {:error, _reason} ->
        keep(state, id, call)
    end
  end

  defp offer_unsent(state) do
    Enum.reduce(state.unsent, state, fn {id, []}, state ->
      case state.calls do
        %{^id => call} -> offer(state, id, call)
        _gone -> state
      end
    end)
  end

  defp finish(state, id, answer) do
    with %{^id => call} <- state.calls, do: GenServer.reply(call.from, answer)
    drop(state, id)
  end

  defp drop(state, id) do
    case Map.pop(state.calls, id) do
      {nil, _calls} ->
        state

      {call, calls} ->
        # Those that have fired already find no call.
        if call.timer, do: Process.cancel_timer(call.timer, async: true, info: false)
        Process.demonitor(call.monitor)
        %{state | calls: calls, unsent: Map.delete(state.unsent, id)}
    end
  end

  defp fail(state, id, make) do
    case state.calls do
      %{^id => call} -> finish(state, id, {:error, make.(call)})
      _gone -> state
    end
  end

  # Workers

  defp ask_for_workers(state, queue) when is_map_key(state.workers, queue), do: state
  defp ask_for_workers(state, queue), do: count(%{state | workers: Map.put(state.workers, queue, :asking)}, queue)

  defp count(state, queue) do
    Connection.count(state.connection, state.ref, queue)
    state
  end

  defp consumers(state, queue, {:ok, 0}), do: nobody(state, queue, :idle)
  defp consumers(state, queue, :missing), do: nobody(state, queue, :missing)

  # Not known, e.g. for want of a right: the publish will tell.
  defp consumers(state, queue, _somebody_or_unknown) do
    %{state | workers: Map.put(state.workers, queue, :seen)}
    |> close_overdue(queue, &timed_out/1)
    |> offer_unsent()
  end

  # Nobody consumes a queue, which is `:idle` or `:missing`: each call that is not sent does what it was told to do then.
  defp nobody(state, queue, found) do
    state = close_overdue(state, queue, &no_worker(&1, absence(found, queue)))
    state = %{state | workers: Map.delete(state.workers, queue)}

    state =
      for id <- unsent_to(state, queue), reduce: state do
        state -> without_worker(state, id, Map.fetch!(state.calls, id), found)
      end

    if unsent_to(state, queue) == [], do: state, else: look_again(state, queue)
  end

  defp unsent_to(state, queue) do
    for {id, []} <- state.unsent, call = state.calls[id], call.message.queue == queue and not call.sent?, do: id
  end

  # Whoever starts workers by the length of the queue sees none that would be needed until the job is in it.
  defp without_worker(state, id, %{wait: ms} = call, found) when ms != nil do
    call = wait_longer(call, id)

    cond do
      found == :idle and state.state == :up -> publish(state, id, call)
      found == :idle or now() < call.until -> keep(state, id, call)
      true -> fail(state, id, &no_worker(&1, absence(found, call.message.queue)))
    end
  end

  defp without_worker(state, id, call, found) do
    if back_lately?(state), do: state, else: fail(state, id, &no_worker(&1, absence(found, call.message.queue)))
  end

  # Once for a call: time-out and deadline are as much later.
  defp wait_longer(%{until: nil, message: message, wait: ms} = call, id) do
    deadline = message.deadline && message.deadline + ms
    %{call | until: now() + ms, timer: prolong(call.timer, id, ms), message: %{message | deadline: deadline}}
  end

  defp wait_longer(call, _id), do: call

  defp prolong(nil, _id, _ms), do: nil

  # One that has fired is in the mailbox already, and counts.
  defp prolong(timer, id, ms) do
    with left when is_integer(left) <- Process.cancel_timer(timer), do: timer(id, left + ms), else: (false -> timer)
  end

  defp look_again(state, queue) do
    if timer = state.looks[queue], do: Process.cancel_timer(timer, async: true, info: false)
    timer = Process.send_after(self(), {:ask, state.ref, queue}, @ask_again)
    %{state | looks: Map.put(state.looks, queue, timer), workers: Map.put(state.workers, queue, :asking)}
  end

  defp back_lately?(state), do: state.links > 1 and now() - state.up_since < @grace

  # Time-outs

  defp overdue(state, id) do
    case state.calls do
      %{^id => %{ends: :confirm} = call} when state.state == :up -> finish(state, id, {:error, unconfirmed(call)})
      %{^id => call} when state.state == :up -> ask_why(state, id, call)
      %{^id => call} -> finish(state, id, {:error, no_link(state, call)})
      _gone -> state
    end
  end

  # The call still takes its reply while the consumers are counted.
  defp ask_why(%{config: %{requires_worker: true}} = state, id, call) do
    queue = call.message.queue
    timer = Process.send_after(self(), {:give_up, id}, @give_up)
    ids = Map.get(state.overdue, queue)
    if ids == nil, do: count(state, queue)

    %{
      state
      | overdue: Map.put(state.overdue, queue, [id | ids || []]),
        calls: Map.put(state.calls, id, %{call | timer: timer})
    }
  end

  defp ask_why(state, id, call), do: finish(state, id, {:error, timed_out(call)})

  defp close_overdue(state, queue, make) do
    {ids, overdue} = Map.pop(state.overdue, queue, [])
    Enum.reduce(ids, %{state | overdue: overdue}, &fail(&2, &1, make))
  end

  defp no_link(%{state: :down} = state, call) do
    sentence = Enum.join(["The broker could not be reached in time" | Map.values(why(state))], ": ")
    Error.new(:connection, sentence, details: Map.merge(why(state), message_id(call)))
  end

  defp no_link(_blocked, call), do: timed_out(call)

  defp why(%{reason: nil}), do: %{}
  defp why(%{reason: reason}), do: %{reason: reason}

  # The link

  # Stubs answer without one.
  defp connect(state) when state.transport == DSPexWorker.Test, do: %{state | state: :up}

  defp connect(state) do
    {:ok, connection} = Connection.start_link(state.connection_options)
    %{state | connection: connection}
  end

  # While this process is there to be told: amqp_client warns of every handler that died. Else the link between the two
  # processes does it.
  defp close(connection) do
    GenServer.stop(connection, :shutdown, 3_000)
  catch
    :exit, _reason -> :ok
  end

  defp up(state) do
    # Whatever waits is not published on this link yet.
    unsent = Map.new(state.calls, fn {id, _call} -> {id, []} end)
    if state.links > 0, do: Logger.info("DSPexWorker: connected to the broker again, #{map_size(unsent)} calls wait")

    offer_unsent(%{
      state
      | state: :up,
        reason: nil,
        links: state.links + 1,
        up_since: now(),
        unsent: unsent,
        workers: %{},
        looks: %{},
        confirms: %Confirms{}
    })
  end

  defp down(state, reason) do
    suspects = Confirms.unconfirmed(state.confirms)

    %{state | state: :down, link: nil, ref: nil, confirms: %Confirms{}}
    |> close_all_overdue()
    |> blame(suspects, closed_by_broker(reason))
  end

  defp close_all_overdue(state) do
    Enum.reduce(Map.keys(state.overdue), state, &close_overdue(&2, &1, fn call -> timed_out(call) end))
  end

  defp closed_by_broker({:shutdown, {:connection_closing, reason}}), do: closed_by_broker({:shutdown, reason})
  defp closed_by_broker({:shutdown, {:server_initiated_close, 320, _text}}), do: nil
  defp closed_by_broker({:shutdown, {:server_initiated_close, code, text}}), do: {code, to_string(text)}
  defp closed_by_broker({:shutdown, {:internal_error, code, text}}), do: {code, to_string(text)}
  defp closed_by_broker(_lost), do: nil

  # A channel or connection that the broker closed itself was closed for one of the messages it has not confirmed.
  defp blame(state, _suspects, nil), do: state

  defp blame(state, suspects, {code, text}) do
    if code in [403, 404] and String.contains?(text, "exchange '"),
      do: refuse_exchange(state, suspects, code, text),
      else: refuse_large_or_strike(state, suspects, text)
  end

  # The one fault of a single message says which, so those sent beside it are none the worse.
  defp refuse_large_or_strike(state, suspects, text) do
    bytes = bytes_refused(text)

    case for id <- suspects, call = state.calls[id], byte_size(call.message.body) == bytes, do: id do
      [] -> strike(state, suspects, text)
      guilty -> Enum.reduce(guilty, state, &fail(&2, &1, fn call -> too_large(call, text) end))
    end
  end

  defp bytes_refused(text) do
    with [_all, bytes] <- Regex.run(~r/message size (\d+) is larger than/, text), do: String.to_integer(bytes)
  end

  defp refuse_exchange(state, suspects, code, text) do
    for id <- suspects,
        call = state.calls[id],
        String.contains?(text, "exchange '#{exchange_name(call)}'"),
        reduce: state do
      state -> fail(state, id, &no_exchange(&1, code, text))
    end
  end

  defp exchange_name(%{message: %{exchange: ""}}), do: "amq.default"
  defp exchange_name(%{message: %{exchange: name}}), do: name

  defp strike(state, suspects, text) do
    for id <- suspects, call = state.calls[id], reduce: state do
      state -> strike(state, id, %{call | strikes: call.strikes + 1}, text)
    end
  end

  defp strike(state, id, %{strikes: @strikes}, text), do: fail(state, id, &refused(&1, text, false))
  defp strike(state, id, call, _text), do: %{state | calls: Map.put(state.calls, id, call)}

  # What the broker says

  defp event({:reply, id, body, tag}, state), do: event({:reply, id, body, tag, %{}}, state)

  defp event({:reply, id, body, tag, headers}, state) do
    state = finish(state, id, {:ok, {body, headers}})
    if state.replies != :direct and state.link != nil, do: state.transport.ack(state.link, tag)
    state
  end

  defp event({:confirmed, seqno, multiple?}, state) do
    {ids, confirms} = Confirms.take(state.confirms, seqno, multiple?)
    Enum.reduce(ids, %{state | confirms: confirms}, &confirmed(&2, &1))
  end

  defp event({:refused, seqno, multiple?}, state) do
    {ids, confirms} = Confirms.take(state.confirms, seqno, multiple?)
    Enum.reduce(ids, %{state | confirms: confirms}, &fail(&2, &1, fn call -> full(call) end))
  end

  # 312 is "no route": there is no such queue.
  defp event({:returned, correlation_id, 312, _text}, state) do
    Enum.reduce(returned(state, correlation_id), state, &unrouted(&2, &1))
  end

  defp event({:returned, correlation_id, _code, text}, state) do
    Enum.reduce(returned(state, correlation_id), state, &fail(&2, &1, fn call -> unroutable(call, text) end))
  end

  defp event(:blocked, %{state: :up} = state), do: %{state | state: :blocked}
  defp event(:unblocked, %{state: :blocked} = state), do: offer_unsent(%{state | state: :up})

  defp event(:cancelled, %{link: link} = state) when link != nil do
    Connection.restart(state.connection, state.ref, :reply_consumer_cancelled)
    state
  end

  defp event(_nothing, state), do: state

  # One that was given back is confirmed as well, afterwards.
  defp confirmed(state, id) do
    case state.calls do
      %{^id => %{ends: :confirm, sent?: true}} -> finish(state, id, {:ok, :confirmed})
      _other -> state
    end
  end

  defp returned(state, id) when is_map_key(state.calls, id), do: [id]

  defp returned(state, correlation_id) do
    for {id, %{ends: :confirm, message: %{correlation_id: ^correlation_id}}} <- state.calls, do: id
  end

  defp unrouted(state, id) do
    case state.calls do
      %{^id => %{wait: ms, message: %{queue: queue}} = call} when ms != nil ->
        state |> keep(id, %{call | sent?: false}) |> nobody(queue, :missing)

      _fails ->
        fail(state, id, fn call -> no_worker(call, absence(:missing, call.message.queue)) end)
    end
  end

  # Errors

  defp no_worker(call, sentence) do
    Error.new(:no_worker, sentence, details: Map.put(message_id(call), :queue, call.message.queue))
  end

  defp no_exchange(call, 404, _text) do
    no_worker(call, "There is no exchange #{call.message.exchange}: has a worker run in this namespace?")
  end

  defp no_exchange(call, 403, text), do: refused(call, text, false)

  defp absence(:missing, queue), do: "There is no queue #{queue}: has a worker run in this namespace?"
  defp absence(:idle, queue), do: "No worker consumes #{queue}"

  defp unconfirmed(%{sent?: false} = call), do: no_worker(call, absence(:missing, call.message.queue))

  # It may be in its queue.
  defp unconfirmed(call) do
    sentence = "The broker did not confirm the job for #{call.message.queue} in time: send it again under the same id"
    Error.new(:timeout, sentence, recoverable: true, details: message_id(call))
  end

  defp timed_out(call) do
    Error.new(:timeout, "No reply from #{call.message.queue} in time", recoverable: true, details: message_id(call))
  end

  defp full(call), do: refused(call, "the queue #{call.message.queue} takes no more messages", true)

  # A full queue has room again; a right that is missing does not come by itself.
  defp refused(call, text, recoverable?) do
    sentence = "The broker refused the request: #{text}"
    Error.new(:refused, sentence, recoverable: recoverable?, details: message_id(call))
  end

  defp too_large(call, text) do
    Error.new(:body_too_large, "The broker refused the request: #{text}", details: message_id(call))
  end

  defp unroutable(call, text) do
    Error.new(:unroutable, "The broker gave the request back: #{text}", details: message_id(call))
  end

  defp message_id(call), do: %{message_id: call.message.message_id}

  defp closed(sentence), do: Error.new(:closed, sentence)

  defp now, do: System.monotonic_time(:millisecond)
end
