# Words that scenes are made of. Providers 1 and 2 are network namespaces with a pppd each; our pppds
# run with the files of etc-ppp. N is 1 or 2 throughout, for the links isp1 and isp2.
# shellcheck shell=bash
# shellcheck disable=SC2034  # scenes use what is set here

L=/log/$SCENE                       # logs
gw=([1]=198.51.100.1 [2]=203.0.113.1 [3]=192.0.2.34)
me=([1]=198.51.100.10 [2]=203.0.113.10 [3]=192.0.2.33)
dev=([1]=ppp0 [2]=ppp1)
tty=([1]=/dev/ttyUSB1 [2]=/dev/ttyUSB0 [3]=/dev/ttyUSB2)
weight=([1]=8 [2]=2)
host=192.0.2.9                      # somewhere on the Internet, behind both providers
host6=2001:db8:9::9
resolver=192.0.2.53
mode=objects                        # or multipath
v6=noipv6                           # or +ipv6
patience=20                         # seconds in which the kernel has to come to hold what is wanted
failures=0
wire=() provider=() ours=()         # process ids of pty pairs, the providers' pppds, our pppds

say() { echo "$(date +%T.%3N) $*" >>"$L/scene.log"; }
fail() {
    say "FAIL: $*"
    failures=$((failures + 1))
    reason=${reason:-$*}
}
# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS <= end)) || return 1
        sleep 0.1
    done
}

# --- the world outside

isp() { # N
    mkdir -p "/etc/netns/isp$1/ppp"
    : >"/etc/netns/isp$1/ppp/options"
    ip netns add "isp$1"
    ip -n "isp$1" link set lo up
    ip -n "isp$1" addr add $host/32 dev lo
    ip -n "isp$1" addr add $host6/128 dev lo
}
serial() { # N: the line itself
    rm -f "${tty[$1]}" "/run/far$1"
    socat "PTY,link=${tty[$1]},rawer,b115200" "PTY,link=/run/far$1,rawer,b115200" 2>>"$L/socat$1.log" &
    wire[$1]=$!
    until_true 10 test -e "/run/far$1" -a -e "${tty[$1]}" || fail "no pty pair for line $1"
    # A terminal that nobody has open looks hung up to socat.
    # shellcheck disable=SC2217
    sleep infinity <"${tty[$1]}" >"/run/far$1" &
}
provide() { # N [option...]: the provider's pppd on the serial line
    local six=()
    mapfile -t six < <(six_options "::$1:1,::$1:2")
    : >"$L/provider$1.log"
    ip netns exec "isp$1" pppd "/run/far$1" 115200 noauth local nodetach nodefaultroute noccp novj \
        lcp-echo-interval 0 lcp-max-configure 100 lcp-restart 1 ipcp-restart 1 ms-dns $resolver "${gw[$1]}:${me[$1]}" \
        "${six[@]}" debug logfile "$L/provider$1.log" "${@:2}" </dev/null >/dev/null 2>&1 &
    provider[$1]=$!
    until_true 10 grep -qs '^Connect:' "$L/provider$1.log" || fail "provider $1 does not start"
}
# The ends of each line have the same addresses each time. The option `ipv6` alone would turn IPv6 on.
six_options() { # NEAR,FAR
    echo "$v6"
    [ "$v6" = noipv6 ] || printf '%s\n' ipv6 "$1"
}
pppoe_provide() { # N INTERFACE: PPPoE; the server is in the provider's namespace already
    local options="/etc/netns/isp$1/ppp/pppoe-server-options"
    printf '%s\n' noauth local nodefaultroute noccp novj 'lcp-echo-interval 0' "$v6" debug "logfile $L/provider$1.log" >"$options"
    ip netns exec "isp$1" pppoe-server -F -I "$2" -L "${gw[$1]}" -R "${me[$1]}" -N 4 >>"$L/pppoe-server.log" 2>&1 &
    wire[$1]=$!
}

# --- our side

# What a scene changes in a peers file before it dials: peer N SED-EXPRESSION. A second serial line
# is the first one's file with the other's names.
peer() { sed -i "$2" "/etc/ppp/peers/isp$1"; }
two_serial_lines() {
    sed 's/isp2/isp1/g; s/^unit 1/unit 0/; s/ttyUSB0/ttyUSB1/' /job/etc-ppp/peers/isp2 >/etc/ppp/peers/isp1
    for n in 1 2; do isp $n; serial $n; provide $n; done
}
# Once is enough for most scenes, and a dead line shall be noticed before the reader falls asleep.
quick=(lcp-echo-interval 1 lcp-echo-failure 2 lcp-restart 1)
once=(nopersist "${quick[@]}")
again=(holdoff 1 "${quick[@]}")
dial() { # N [option...]
    local six=()
    mapfile -t six < <(six_options "::$1:2,::$1:1")
    say "dial $*"
    pppd call "isp$1" nodetach "${six[@]}" debug logfile "$L/pppd$1.log" "${@:2}" </dev/null >>"$L/pppd$1.out" 2>&1 &
    ours[$1]=$!
}
restore() { # N: a new line and provider where they were lost
    kill -KILL "${provider[$1]}" "${wire[$1]}" 2>/dev/null
    wait "${provider[$1]}" "${wire[$1]}" 2>/dev/null
    serial "$1"
    provide "$1"
}
lose() { # N HOW
    say "lose line $1 by $2"
    case $2 in
    term) kill -TERM "${ours[$1]}" ;;
    hup) kill -HUP "${ours[$1]}" ;;
    peerterm) kill -TERM "${provider[$1]}" ;;
    echo) kill -STOP "${provider[$1]}" ;;
    hangup) kill -KILL "${wire[$1]}" ;;
    esac
}
ended() { # N: our pppd has exited, and with it its hooks
    local pid=${ours[$1]}
    until_true 30 eval "! kill -0 $pid" || fail "pppd of line $1 still runs 30 s after its line was lost"
}
hooks_ended() {
    local names='0multihome|mh-ip-(up|down)'
    until_true 30 eval "! pgrep -x '$names'" || fail "a hook still runs after 30 s: $(pgrep -ax "$names")"
}

# --- what the kernel should hold

# The whole of it for links N... that are up, in the words of ip(8), sorted.
wanted() {
    local n legs='' group='' way=''
    for n; do
        way=" via ${gw[$n]} dev ${dev[$n]}"
        legs+=" nexthop$way weight ${weight[$n]}"
        group+="${group:+/}$((7000 + n)),${weight[$n]}"
        echo "$n: default$way proto 77"
        echo "main: default$way proto 77 metric $((3999999 + n))"
        echo "$((190 + n)): from ${me[$n]} lookup $n proto 77"
        [ $mode != objects ] || echo "id $((7000 + n))$way scope 253 proto 77"
    done
    case $#,$mode in
    0,*) ;;
    1,objects) echo "main: default nhid 7100$way proto 77" ;;
    1,*) echo "main: default$way proto 77" ;;
    *,objects) echo "main: default nhid 7100 proto 77$legs" ;;
    *) echo "main: default proto 77$legs" ;;
    esac
    [ $# = 0 ] || [ $mode != objects ] || echo "id 7100 group $group proto 77"
    cat /job/guest/rules
    [ "$v6" = noipv6 ] || wanted6 "$@" | sed 's/^/ipv6 /'
}
# The same in IPv6: main's default is held once more in table 253, behind the policies.
wanted6() {
    local n table default=''
    for n; do
        local way="via fe80::$n:1 dev ${dev[$n]}"
        case $# in
        1) default="default $way proto 77 metric 512 pref medium" ;;
        *) default="${default:-default proto 77 metric 512 pref medium} nexthop $way weight ${weight[$n]}" ;;
        esac
        echo "$n: default $way proto 77 metric 1024 pref medium"
        echo "main: default $way proto 77 metric $((3999999 + n)) pref medium"
    done
    for table in main 253; do [ $# = 0 ] || echo "$table: $default"; done
    cat /job/guest/rules6
}
# What it does hold: default routes of all tables, nexthops and rules.
held() {
    ip -4 -N -o route show table all default | sed -E 's/(.*) table ([0-9]+)(.*)/\2: \1\3/; t; s/^/main: /'
    ip -N nexthop
    ip -N rule
    [ "$v6" = noipv6 ] || held6 | sed 's/^/ipv6 /'
}
held6() {
    ip -6 -N -o route show table all default | sed -E 's/(.*) table ([0-9]+)(.*)/\2: \1\3/; t; s/^/main: /'
    ip -6 -N rule
}
# A backslash is where ip -o has joined lines. The legs of a route are lines of their own: the kernel keeps
# them as they were given, and which is first says nothing.
plain() { tr -s ' \t\134' ' ' | sed 's/ $//; s/ nexthop /\nmain: nexthop /g' | sort; }
holds() { # SORTED WANTED
    # One question goes before the costly rest.
    [ "$(grep -c '^main: default' <<<"$1")" = "$(ip -N -o route show default | wc -l)" ] && [ "$1" = "$(held | plain)" ]
}
# expect N...: these links are up and the others are not, by what the kernel holds. Hooks need a moment.
expect() {
    local want
    want=$(wanted "$@" | plain)
    if until_true "$patience" holds "$want"; then
        say "the kernel holds what is wanted for links: $*"
    else
        fail "the kernel does not hold what is wanted for links '$*'"
        diff <(echo "$want") <(held | plain) >>"$L/scene.log"
    fi
}
# A packet to the Internet and back, by the default route or from an address of ours.
reaches() {
    ping -q -c1 -W5 "$@" $host >>"$L/ping.log" 2>&1 || fail "no answer to a ping: $*"
    [ "$v6" = noipv6 ] || [ $# != 0 ] || ping -6 -q -c1 -W5 $host6 >>"$L/ping.log" 2>&1 || fail "no answer to a ping in IPv6"
}

# --- how long there was no way

watch() {
    samplers=()
    sample -4
    [ "$v6" = noipv6 ] || sample -6
}
sample() { # FAMILY
    route-sampler "$1" >"$L/sampler$1" 2>&1 &
    samplers[${1#-}]=$!
    until_true 10 grep -q started "$L/sampler$1" || fail "the sampler $1 does not start"
}
unwatch() {
    local family
    for family in "${!samplers[@]}"; do
        kill -TERM "${samplers[$family]}"
        wait "${samplers[$family]}" || fail "the sampler failed: $(cat "$L/sampler-$family")"
        add_up "$(tail -1 "$L/sampler-$family")"
    done
}
add_up() { # WHAT A SAMPLER SAID
    sampled=$1
    say "sampler: $sampled"
    local asked unreachable gap_us pause_us
    eval "$(grep -oE '[a-z_]+=[0-9]+' <<<"$sampled")"
    total_asked=$((${total_asked:-0} + asked)) total_unreachable=$((${total_unreachable:-0} + unreachable))
    ((gap_us <= ${longest_gap:-0})) || longest_gap=$gap_us
    ((pause_us <= ${longest_pause:-0})) || longest_pause=$pause_us
    ((asked > 100)) || fail "the sampler asked only $asked times"
}
no_gap() { ((total_unreachable == 0)) || fail "no route in $total_unreachable of $total_asked answers, for $((longest_gap / 1000)) ms"; }

# Wall time of each hook from exec to exit, as the kernel saw it: "ip-up 31-55 ms, ip-down ...".
hook_times() {
    awk '
        { match($0, / [0-9]+\.[0-9]+: /); t = substr($0, RSTART + 1, RLENGTH - 3) * 1000 }
        /sched_process_exec/ && /0multihome|mh-ip-/ {
            match($0, /filename=[^ ]+/); f = substr($0, RSTART + 9, RLENGTH - 9)
            match($0, / pid=[0-9]+/); p = substr($0, RSTART + 5, RLENGTH - 5)
            split(f, part, "/"); kind[p] = f ~ /up/ ? "up" : "down"; start[p] = t
        }
        /sched_process_exit/ {
            match($0, / pid=[0-9]+/); p = substr($0, RSTART + 5, RLENGTH - 5)
            if (!(p in start)) next
            k = kind[p]; d = t - start[p]; delete start[p]
            if (!n[k]++ || d < min[k]) min[k] = d
            if (d > max[k]) max[k] = d
            printf "%s took %.1f ms\n", k, d >>log_file
        }
        END {
            for (p in start) printf "%s has not ended\n", kind[p] >>log_file
            printf "%d up in %.0f-%.0f ms, %d down in %.0f-%.0f ms", n["up"], min["up"], max["up"], n["down"], min["down"], max["down"]
        }' log_file="$L/hooks.log" /sys/kernel/tracing/trace
}
