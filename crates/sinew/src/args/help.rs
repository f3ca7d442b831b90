//! The long texts of `--help`: what each subcommand does, and examples of it.

pub(super) const SINEW: &str = "\
Binds ordinary Linux programs into one service network.

Each instance of a service runs as an ordinary process with an address of its own. Programs in the \
network call a service by its name, `http://orders/`; the kernel chooses a healthy instance when \
they connect, and nothing stands in the path after that.";

pub(super) const SINEW_AFTER: &str = "\
Examples:
  sinew up                            start the services of ./sinew.yaml, show what they write
  sinew exec -- curl http://orders/   call one of them
  sinew ps                            see where each instance stands
  sinew doctor                        see whether this machine can run Sinew

Many hosts:
  On each, `agent --join` takes it into the network, `status` shows its place there, `leave` takes it \
out. The commands from `control` on run where a replica of control runs: `token` to let hosts in, \
`nodes` and `history` to look, the others to change something.

Environment:
  SINEW_RUN      directory of the agent's socket [default: /run/sinew]
  SINEW_STATE    directory of logs and lasting state [default: /var/lib/sinew]
  SINEW_PINS     directory for programs and maps [default: /sys/fs/bpf/sinew]
  SINEW_CGROUP   cgroup that holds all members [default: sinew under the cgroup2 mount]
  SINEW_SOCKET   the agent's socket, as --socket
  SINEW_CONTROL  the socket of a replica of control, as --control
  SINEW_LOG      what the agent logs, as `sinew agent --log`
  NO_COLOR       no colour when set to anything

Exit status:
  0  done
  1  failed
  2  wrong usage
  sinew run and exec: that of the command; 125 when Sinew failed, 126 when the command cannot be \
run, 127 when it is not found, 128+N when signal N ended it";

pub(super) const UP: &str = "\
Start the services of a file and show what they write.

When the project is up already, only what the file changed is changed; `sinew plan` shows it \
first. Without an agent, root starts one that stays. The first Ctrl-C drains and stops the \
services, dependents first; the second leaves at once and says what still runs. When the agent \
dies meanwhile the services go on: `up` waits for it (or starts it again if it had started it) and \
continues with the first line not shown yet.";

pub(super) const UP_EXAMPLES: &str = "\
Examples:
  sinew up                        the services of ./sinew.yaml, in the foreground
  sinew up -f shop.yaml -d        wait until all are up, then leave them running
  sinew up -d --timeout 300       for services that take long to start
  sinew up --output json          events and log lines, one JSON value a line";

pub(super) const PLAN: &str = "\
Show what `up` would change: which instances it would start, restart, change in place and stop, \
and why. Changes nothing.";

pub(super) const PLAN_EXAMPLES: &str = "\
Examples:
  sinew plan                      for ./sinew.yaml
  sinew plan -f shop.yaml         for another file
  sinew plan --output json        for a program";

pub(super) const DOWN: &str = "\
Stop services: each is drained, then stopped, dependents first.

With a project's name or file, that project. With neither, every project; when there is more than \
one, `down` asks first. With --purge, everything Sinew runs on this host, then the agent, then \
every program, pin, cgroup, route and file it made; `down` asks first. Where it would ask but has \
no terminal to ask on, it changes nothing and fails unless --yes is given.";

pub(super) const DOWN_EXAMPLES: &str = "\
Examples:
  sinew down                      stop what is up
  sinew down shop                 stop the project `shop`
  sinew down -f shop.yaml         stop the project of that file
  sinew down --purge --yes        leave nothing of Sinew on this host";

pub(super) const RUN: &str = "\
Run one command as an instance of a service, for as long as it lives.

The command replaces `sinew`: it keeps the terminal, the directory, the environment and the exit \
status. Callers reach it by the service's name as soon as it listens on the port it declared. As \
root, it loses the capabilities that would let it change the network around it, unless \
--keep-privileges is given. With --replicas, that many of them run side by side, without standard \
input; signals go to all of them, each line of output names its instance, and the exit status is \
that of the first that failed.";

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  sinew run --service hello --port 8000 -- python3 -m http.server 8000
  sinew run -s dns -p 53/udp:dns -p 53:dns-tcp -- dnsmasq -k
  sinew run -s api -p 8080:http --replicas 3 -- ./api --listen :8080";

pub(super) const EXEC: &str = "\
Run one command that can call the services by name, without being one itself. It keeps the \
terminal, the directory, the environment and the exit status.";

pub(super) const EXEC_EXAMPLES: &str = "\
Examples:
  sinew exec -- curl http://orders/
  sinew exec -- psql -h db -U shop
  sinew exec -- bash              a shell inside the network";

pub(super) const ADOPT: &str = "\
Make what runs already an endpoint of a service, without a restart.

Callers reach it by the service's name, where it listens: a listener bound to every address is \
reached at 127.0.0.1 or ::1, and it sees its callers come from the host's own addresses, as before. \
Its own calls go through Sinew from then on: `NAME.sinew.internal` is balanced like any service, \
and bare names too where its resolver asks for them. Calls to the outside stay as they were.

A unit or a cgroup is hooked in place, and stays adopted through its restarts until it is released. \
A process is moved with its descendants into a cgroup among the members', and adopted until they \
have ended; sockets that it has stay as they are. Adopting the same thing again takes back a \
`sinew drain`. The name may not be one of a project that is up. Processes of other users are \
root's to adopt, and theirs whom the policy lets.";

pub(super) const ADOPT_EXAMPLES: &str = "\
Examples:
  sinew adopt postgresql@15-main --service db --port 5432
  sinew adopt 4711 --service cache --port 6379:redis
  sinew adopt /system.slice/nginx.service --service web --port 80 --port 443";

pub(super) const RELEASE: &str = "\
Let an adopted endpoint go: callers are sent elsewhere, then the kernel programs are detached, and \
processes that were moved go back to the cgroup they came from. What runs goes on, and so do its \
open connections.";

pub(super) const RELEASE_EXAMPLES: &str = "\
Examples:
  sinew release db/0
  sinew release cache/1 --output json";

pub(super) const PS: &str = "\
List workloads: what runs, where it stands and why.";

pub(super) const PS_EXAMPLES: &str = "\
Examples:
  sinew ps
  sinew ps --output json | jq -r '.[] | select(.state != \"up\") | .reason'";

pub(super) const SERVICES: &str = "\
List services with their addresses and ports, or show one with its endpoints: what the kernel \
counted for each, and whether it is held ejected.";

pub(super) const SERVICES_EXAMPLES: &str = "\
Examples:
  sinew services
  sinew services orders
  sinew services orders --output json | jq '.endpoints[].active'";

pub(super) const STATUS: &str = "\
Show how this host is: which network it has joined and as what, whether it hears of changes, what it \
knows and what of that is in doubt, until when its certificate holds. It asks this host's agent alone, \
so it works while no control does.";

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  sinew status
  sinew status --output json | jq '.fleet.session.control'";

pub(super) const LEAVE: &str = "\
Take this host out of the network that it has joined. The others stop calling what runs here, what is \
open has some time to end, and control hears that nothing is left; then routes, addresses, the \
certificate and what was known of other hosts are removed. What runs here goes on, for callers of this \
host. It works while no control is there as well: the others learn of it when control declares the host \
dead. The name and the slice stay the host's in the store of the control plane: \
`sinew nodes forget NODE` there removes them. An agent that is started with the token that it had stays \
alone; a fresh one joins again.";

pub(super) const LEAVE_EXAMPLES: &str = "\
Examples:
  sinew leave
  sinew leave --grace 60 --yes";

pub(super) const LOGS: &str = "\
Show what workloads write, each line behind the name of its replica.";

pub(super) const LOGS_EXAMPLES: &str = "\
Examples:
  sinew logs                      everything that is kept
  sinew logs -f --tail 10 orders  the last lines of each replica of `orders`, then as they come
  sinew logs orders/2             those of one replica
  sinew logs --output json        one JSON value a line";

pub(super) const EXPLAIN: &str = "\
Tell which backend a call would get now, and why each other would not: in the kernel's order, with \
its own verdicts.

Would be taken:
  fit                 listens, keeps up, not ejected
  probe-due           its ejection ended: the next caller that comes to it tries it
Sick, taken only when no fit one is left:
  dying               the process that listens was killed or exits
  hung                its accept queue has not been empty for 20 ms
  ejected             too many failures in a row, and its time is not over
  probing             its ejection ended, and one caller tries it
  suspect             its host has left calls without an answer
Gone, never taken:
  no-listener         nothing listens on the port
  multipath-listener  called by a published port, and listens by MPTCP only
Not in the choice, so that the kernel does not look at it:
  waiting, starting, not-listening, process-gone, unhealthy, draining, backing-off, exited, stopped

The caller is a service, a workload, `exec`, or `outside` (who comes by a published port); it \
matters to services that balance by source, whose callers keep a backend. Which ones are drawn is \
random, and the kernel looks anew at each call, so this is what holds at the moment.";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  sinew explain web orders
  sinew explain web/0 orders:http
  sinew explain exec db:5432 --output json | jq -r '.endpoints[] | [.workload, .code] | @tsv'";

pub(super) const FLOWS: &str = "\
Show connections one by one: who called whom, which instance was taken, how it went and why, how \
long the handshake and the connection took, and the bytes both ways.

The kernel tells of a connection when it closes, and only while somebody follows; what it refuses \
members itself (no backend, no such port, a bind to somebody else's address) it always tells. \
Callers by published ports are `outside`: they are told when the instance closes its end, with the \
address and port of the host that they called, and without the connection's life. So `-f` shows \
everything from now on, and without it the last 1024 are shown that were told to anybody. With more \
than about 2000 connections a second, one of N is shown, and N is said; failures are shown all the \
same, and what is lost is counted. Left out are datagram sockets that name look-ups connect to \
TCP services and never use. Times are UTC.";

pub(super) const FLOWS_EXAMPLES: &str = "\
Examples:
  sinew flows -f                            connections as they close
  sinew flows -f --from web --to orders     of one edge
  sinew flows --verdict no-backend          calls that found nobody
  sinew flows -f --output json | jq -r 'select(.connect_us > 10000) | .backend'";

pub(super) const TOP: &str = "\
Show who calls whom, live, and below it the endpoints that are called: calls a second, connections \
in flight, median and 99th percentile of the connect time, errors a second, ejections, on edges \
bytes a second; all but ejections over the last second. Ejections are counted since the edge was \
first used, or the endpoint made. The bars are calls a second at the last 20 looks. An endpoint is \
`hung` when callers passed it by because it does not accept, until it gets a call or ends those it \
has, `ejected` while they pass it by because it failed, and `suspect` while its host, another \
one, leaves calls without an answer.

Connect times, errors and bytes are counted when a connection closes; of connections from `outside` \
only that they began. Keys: up and down select an \
edge and show the endpoints of its service alone, Esc shows all again, left and right choose the \
column to sort by, p pauses, q leaves. Where the output is no terminal, one plain table is printed.";

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  sinew top
  sinew top --once                one plain table
  sinew top --output json | jq '.edges[] | select(.errors_per_s > 0)'";

pub(super) const SCALE: &str = "\
Change how many instances services have. New ones take calls when they are healthy; those that go \
are drained first. Waits until all is so. The next `sinew up` sets what the file says.";

pub(super) const SCALE_EXAMPLES: &str = "\
Examples:
  sinew scale orders=5
  sinew scale orders=5 web=2";

pub(super) const DRAIN: &str = "\
Take an instance out of its service's choice: it gets no new connections, those it has may end, then it \
is stopped and stays down. Waits for that.

`sinew restart` of its service starts it again. `sinew up` leaves it down, also when the file \
changed, and says so; it forgets that it was drained when the service is scaled below it or taken \
down. An adopted endpoint is called again when it is adopted again.";

pub(super) const DRAIN_EXAMPLES: &str = "\
Examples:
  sinew drain orders/2
  sinew drain orders/2 --no-wait
  sinew services orders           see its connections end";

pub(super) const RESTART: &str = "\
Restart a service, one instance at a time: each is drained and stopped, and the next one follows \
when the new one is healthy. Waits until all are; one that does not come up stops the roll-out \
while the others serve.";

pub(super) const RESTART_EXAMPLES: &str = "\
Examples:
  sinew restart orders
  sinew restart orders --no-wait
  sinew ps                        see how far it is";

pub(super) const AGENT: &str = "\
Be the agent of this host: launch and watch workloads, keep the kernel's maps true, answer the \
API. Runs in the foreground and logs to standard error; a service manager starts it at boot. What \
runs goes on when the agent ends or is replaced, and connections with it.";

pub(super) const AGENT_EXAMPLES: &str = "\
Examples:
  sudo sinew agent
  sudo sinew agent --log sinew_agent=debug

One of many hosts; later starts need no more than `sinew agent`:
  sudo sinew agent --join control-1,control-2 --token sinew-join-v1... --zone a

A second one, for another network namespace:
  sudo nsenter --net=/run/netns/b sinew agent --run /run/sinew-b --state /var/lib/sinew-b \\
      --pins /sys/fs/bpf/sinew-b --cgroup /sys/fs/cgroup/sinew-b";

pub(super) const CONTROL: &str = "\
Be a replica of the control plane, by which the services of many hosts call each other.

What the network must not lose lies in a store: a file of this host (--data), or etcd (--etcd), which \
any number of replicas share. Hosts connect to --listen and show certificates that the network's own \
authority signs; `sinew token create` makes what they join with. When all replicas are down, what \
runs goes on: hosts keep what they know, and take up what changed when one is back.

The authority's key lies in the store too; with --ca-key-file it is encrypted there. Runs in the \
foreground and logs to standard error; people reach it by its socket.";

pub(super) const CONTROL_EXAMPLES: &str = "\
Examples:
  sudo sinew control
  sudo sinew control --name a --ca-key-file /etc/sinew/ca.key \\
      --etcd https://10.0.0.1:2379,https://10.0.0.2:2379 --etcd-ca /etc/sinew/etcd-ca.pem
  sudo sinew control export network.jsonl        all that the store holds, to move or keep it
  sudo sinew control import network.jsonl --data /var/lib/sinew/control
  sudo sinew control rotate-root                 a new root certificate";

pub(super) const TOKEN: &str = "\
Make, list and revoke the tokens that hosts join with. Runs where a replica of control runs.

A token admits one host within an hour, unless told otherwise, and names the authority that the host \
is to believe. Who has it can join: hand it on as a password. With --node it is for one name alone, \
and lets a host that was set up anew take its old name, or one that was withdrawn come back.";

pub(super) const TOKEN_EXAMPLES: &str = "\
Examples:
  sudo sinew token create                        print the command to run on the new host
  sudo sinew token create --zone a --uses 20 --ttl 10m
  sudo sinew token create --node web-1           for a host set up anew
  sudo sinew token list
  sudo sinew token revoke 0123456789";

pub(super) const NODES: &str = "\
List the hosts of the network: where they are, whether they are there, and of which services they \
have not what is newest. Only the replica that has a host's session tells the last. `withdraw` takes \
a host out: its session ends, and it gets no other. `forget` is for a dead host that does not come \
back: nothing of it stays, and its slice of the instance network is free for others after a while. \
Hosts that are dead for 30 days are forgotten without it (`sinew limits`).";

pub(super) const NODES_EXAMPLES: &str = "\
Examples:
  sudo sinew nodes
  sudo sinew nodes --output json | jq '.[] | select(.session.lost_since_ms) | .name'
  sudo sinew nodes withdraw web-1
  sudo sinew nodes forget web-1";

pub(super) const HISTORY: &str = "\
Show what was done to the network, by the control plane itself and by people: each action with who \
did it and why. With --output json also what it went by, the generation that it was computed from, \
what it changed in the store, and whom it touched in each zone. The last 10000 are kept.";

pub(super) const HISTORY_EXAMPLES: &str = "\
Examples:
  sudo sinew history
  sudo sinew history --follow
  sudo sinew history --after 4711 --output json | jq '.[].diff'";

pub(super) const ROLLBACK: &str = "\
Undo what was set after a generation: shares of zones, pauses and limits are what they were then. What \
was changed since by other means stays, and so does what hosts say of themselves; both are told. A \
rollback is an action like others, and can be undone.";

pub(super) const ROLLBACK_EXAMPLES: &str = "\
Examples:
  sudo sinew rollback 4711 --dry-run             show what it would change
  sudo sinew rollback 4711";

pub(super) const PAUSE: &str = "\
Have the control plane leave something undone until it is resumed, through restarts and upgrades of \
it: `removals` is declaring hosts dead and removing what they ran, `placement` is placing replicas and \
the steps by which zones come back. Hosts go on reporting what they run meanwhile. Without a name: \
show what is paused, frozen, or gets less than its share.";

pub(super) const PAUSE_EXAMPLES: &str = "\
Examples:
  sudo sinew pause removals --reason maintenance
  sudo sinew pause";

pub(super) const RESUME: &str = "\
End a pause. What is due then is done at once: look with `sinew nodes` first who is gone.";

pub(super) const RESUME_EXAMPLES: &str = "\
Examples:
  sudo sinew resume removals";

pub(super) const EVACUATE: &str = "\
Send a zone no new connections: callers shift to other zones at once, and what is connected drains. \
Refused without --force while another zone gets less than its share, and when more than half of what \
is up of some service is in that zone.";

pub(super) const EVACUATE_EXAMPLES: &str = "\
Examples:
  sudo sinew evacuate a --dry-run                show whom it touches
  sudo sinew evacuate a --reason maintenance
  sudo sinew return a";

pub(super) const PLACE: &str = "\
Have the services of a file run on any hosts of the network that take what is placed (`sinew agent \
--placement`): `replicas` are those of the whole network, spread over zones and then over hosts, within \
the processor and memory of each that `limits` declare, on hosts with the labels of `placement`. What \
runs stays where it is; what a dead host had runs elsewhere after reschedule_ms. Commands and \
directories have to be there on those hosts; a service without a `user` runs as root. A changed file is \
placed again under the same name.";

pub(super) const PLACE_EXAMPLES: &str = "\
Examples:
  sudo sinew place -f shop.yaml --dry-run    show where everything would run
  sudo sinew place -f shop.yaml
  sudo sinew placement
  sudo sinew unplace shop";

pub(super) const UNPLACE: &str = "\
Have the services of a placed file run nowhere: hosts drain and stop their replicas.";

pub(super) const UNPLACE_EXAMPLES: &str = "\
Examples:
  sudo sinew unplace shop";

pub(super) const PLACEMENT: &str = "\
Show what is placed, how many replicas each host runs of it, what has no place and why, and what hosts \
refuse to run.";

pub(super) const PLACEMENT_EXAMPLES: &str = "\
Examples:
  sudo sinew placement
  sudo sinew --output json placement";

pub(super) const RETURN: &str = "\
Bring a zone back that was evacuated: it gets 10 % of its share, then 25, 50 and 100. Each step waits \
for return_step_ms, and for the zone to be as well as when the step began; else it stops there and \
says why, until this is called again. `sinew nodes` shows how far it is.";

pub(super) const RETURN_EXAMPLES: &str = "\
Examples:
  sudo sinew return a";

pub(super) const LIMITS: &str = "\
Show or change what is declared of the network: how long a host may be silent, how much is removed at \
once, how much there can be. Changes take effect at once, without a restart.";

pub(super) const LIMITS_EXAMPLES: &str = "\
Examples:
  sudo sinew limits
  sudo sinew limits set removal_cap_percent=20 service_endpoints=1000";

pub(super) const DOCTOR: &str = "\
Tell whether this machine can run Sinew: kernel, mounts, rights, name services that bypass it, and \
other programs on the same hooks. Each finding says what it means and what to do. Exits with 1 when \
something stands in the way.";

pub(super) const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo sinew doctor
  sinew doctor --output json | jq -r '.[] | select(.verdict == \"blocks\") | .remedy'";

pub(super) const COMPLETIONS: &str = "\
Print completions for a shell, to be put where that shell looks for them.";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  sinew completions bash > /etc/bash_completion.d/sinew
  sinew completions zsh > ~/.zfunc/_sinew
  sinew completions fish > ~/.config/fish/completions/sinew.fish";
