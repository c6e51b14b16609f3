package command

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/worker"
)

func reportCommand(p process) *cli.Command {
	return &cli.Command{
		Name:  "report",
		Usage: "print versions, platform and settings, for a bug report",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print JSON"},
		}, globalFlags()...),
		Action: func(c *cli.Context) error { return runReport(c, p) },
	}
}

// reported are the libraries that a report names.
var reported = []string{"github.com/rabbitmq/amqp091-go", "github.com/redis/go-redis/v9", "github.com/vmihailenco/msgpack/v5"}

// runReport is `stalk report`, in the shape of Celery's. It needs no broker. Secrets are masked as in inspect conf.
func runReport(c *cli.Context, p process) error {
	file, _ := given(c, "config")
	namespace, _ := given(c, "config-namespace")
	set, err := loadSettings(file, namespace, p.environ)
	if err != nil {
		return usageError{err}
	}
	shown := worker.MaskSettings(shownSettings(c, set))
	software := protocol.ObjectOf(protocol.Member{Key: "stalk", Value: Version}, protocol.Member{Key: "go", Value: runtime.Version()})
	for name, version := range libraries() {
		software.Set(name, version)
	}
	where := func(name string) string {
		v, _ := shown.Get(name)
		if v == nil {
			return "disabled"
		}
		return protocol.Str(v)
	}
	transport, _, _ := strings.Cut(where("broker_url"), "://")
	out := &session{c: c, p: p}
	if c.Bool("json") {
		out.say("%s", jsonText(protocol.ObjectOf(
			protocol.Member{Key: "software", Value: software},
			protocol.Member{Key: "platform", Value: object("system", runtime.GOOS, "arch", runtime.GOARCH, "cpus", cpus())},
			protocol.Member{Key: "transport", Value: transport},
			protocol.Member{Key: "results", Value: where("result_backend")},
			protocol.Member{Key: "settings", Value: shown},
		)))
		return nil
	}
	var names []string
	for _, m := range software.Members() {
		names = append(names, m.Key+":"+protocol.Str(m.Value))
	}
	out.say("\nsoftware -> %s", strings.Join(names[:2], " "))
	if len(names) > 2 {
		out.say("            %s", strings.Join(slices.Sorted(slices.Values(names[2:])), " "))
	}
	out.say("platform -> system:%s arch:%s\n            cpus:%d imp:go", runtime.GOOS, runtime.GOARCH, cpus())
	out.say("loader   -> none\nsettings -> transport:%s results:%s\n", transport, where("result_backend"))
	for _, m := range shown.Members() {
		fmt.Fprintf(out.out(), "%s: %s\n", m.Key, protocol.Repr(m.Value))
	}
	out.say("")
	return nil
}

// libraries are the versions of the libraries that speak to brokers and stores, by short name.
func libraries() map[string]string {
	out := map[string]string{}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	for _, d := range info.Deps {
		if i := slices.Index(reported, d.Path); i >= 0 {
			parts := strings.Split(d.Path, "/")
			out[parts[2]] = d.Version
		}
	}
	return out
}
