// SPDX-License-Identifier: Apache-2.0

package eifinit

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit/process"
	"github.com/cretula/cretula/internal/need"
)

// These tests boot a Debian kernel with our init in QEMU, which emulates the
// processor too: no /dev/kvm, no vsock and no vhost of this machine is used.

// An architecture is what is to be emulated.
type architecture struct {
	arch               eif.Arch
	goarch, qemu       string
	board, moreCmdline string
}

var (
	x86 = architecture{eif.ArchX86_64, "amd64", "qemu-system-x86_64", "pc", ""}
	arm = architecture{eif.ArchAArch64, "arm64", "qemu-system-aarch64", "virt", " console=ttyAMA0"}
)

// modules are what the Debian kernel needs for a vsock that Nitro's has built in,
// but for the last: see driver.
var modules = []string{"virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
	"vsock", "vmw_vsock_virtio_transport_common"}

// A machine is one boot: of an image, or of ramdisks that no image would have.
type machine struct {
	architecture
	image   *eifbuild.Config // complete but for kernel, command line and init
	process *process.Process // nil: no file "process"
	file    []byte           // instead
	parent  *parent          // nil: no vsock
	driver  []byte           // in place of the module that is nsm.ko
	noNodes bool             // no device nodes in the bootstrap ramdisk
	noApp   bool             // no application ramdisk
	more    []eifbuild.Entry // of the application ramdisk, before "process"
	cmdline string           // more of the kernel's command line
}

// kernel returns the file that testdata/kernel put there, with modules beside it.
func (a *architecture) kernel(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return need.File(t, filepath.Join(cache, "cretula-check", "kernel-"+a.goarch, "vmlinuz"), "a kernel to boot, which ./check downloads")
}

// program compiles one of the programs in testdata for the machine.
func (a *architecture) program(t *testing.T, name string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", out, "./testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux", "GOARCH="+a.goarch)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func archive(t *testing.T, w io.Writer, entries []eifbuild.Entry) {
	t.Helper()
	r, err := eifbuild.Archive(entries)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, r.Source().Reader); err != nil {
		t.Fatal(err)
	}
}

func dir(name string) eifbuild.Entry {
	return eifbuild.Entry{Name: name, Type: eifbuild.Dir, Mode: 0o755}
}

func file(name string, data []byte) eifbuild.Entry {
	return eifbuild.Entry{Name: name, Mode: 0o755, Content: eifbuild.Bytes(data)}
}

// loader is an archive before those of the image, with what stands for the
// drivers that Nitro's kernels have built in.
func (m *machine) loader(t *testing.T, kernel string) []eifbuild.Entry {
	t.Helper()
	entries := []eifbuild.Entry{file("loader", m.program(t, "loader")), dir("modules")}
	for _, name := range modules {
		// What has no module is in the kernel itself.
		data, err := os.ReadFile(filepath.Join(filepath.Dir(kernel), name+".ko"))
		if err == nil && m.parent != nil {
			entries = append(entries, file("modules/"+name+".ko", data))
		}
	}
	return entries
}

// driver is the module that init is given for the NSM's: without it there is no
// heartbeat.
func driver(t *testing.T, kernel string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(kernel), "vmw_vsock_virtio_transport.ko"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (m *machine) bootstrap(t *testing.T, kernel string) []eifbuild.Entry {
	t.Helper()
	entries := []eifbuild.Entry{dir("dev"), file("init", Binary(m.arch))}
	if !m.noNodes {
		entries = append(entries, eifbuild.Entry{Name: "dev/console", Type: eifbuild.CharDevice, Mode: 0o600, Major: 5, Minor: 1},
			eifbuild.Entry{Name: "dev/null", Type: eifbuild.CharDevice, Mode: 0o666, Major: 1, Minor: 3})
	}
	if m.driver != nil {
		entries = append(entries, file("nsm.ko", m.driver))
	} else if m.parent != nil {
		entries = append(entries, file("nsm.ko", driver(t, kernel)))
	}
	return entries
}

func (m *machine) application(t *testing.T) []eifbuild.Entry {
	t.Helper()
	entries := append([]eifbuild.Entry{dir("rootfs"), dir("rootfs/bin"), file("rootfs/bin/probe", m.program(t, "probe"))}, m.more...)
	data := m.file
	if m.process != nil {
		var err error
		if data, err = m.process.Encode(); err != nil {
			t.Fatal(err)
		}
	}
	if data != nil {
		entries = append(entries, file(process.FileName, data))
	}
	return entries
}

// writeImage builds the image and writes its ramdisks, one after the other, as the
// hypervisor lays them out in memory.
func (m *machine) writeImage(t *testing.T, w io.Writer, kernel string) {
	t.Helper()
	c := *m.image
	c.Arch = m.arch
	var err error
	if c.Kernel, err = eifbuild.FileContent(kernel); err != nil {
		t.Fatal(err)
	}
	c.Init, c.NSMKo = eifbuild.Bytes(Binary(m.arch)), eifbuild.Bytes(driver(t, kernel))
	f, err := os.Create(filepath.Join(t.TempDir(), "image.eif"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := eifbuild.Build(t.Context(), f, c); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := eif.Parse(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range im.Ramdisks() {
		if _, err := io.Copy(w, im.Section(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) ramdisks(t *testing.T, w io.Writer, kernel string) {
	t.Helper()
	archive(t, w, m.loader(t, kernel))
	if m.image != nil {
		m.writeImage(t, w, kernel)
		return
	}
	archive(t, w, m.bootstrap(t, kernel))
	if !m.noApp {
		archive(t, w, m.application(t))
	}
}

// boot runs a machine until it restarts and returns what its console showed.
func (m *machine) boot(t *testing.T) string {
	t.Helper()
	if m.qemu == "" {
		m.architecture = x86
	}
	qemu := need.Program(t, m.qemu)
	kernel := m.kernel(t)
	initrd, err := os.Create(filepath.Join(t.TempDir(), "initrd"))
	if err != nil {
		t.Fatal(err)
	}
	defer initrd.Close()
	m.ramdisks(t, initrd, kernel)
	cmdline := eifbuild.DefaultCmdline(m.arch)
	if m.parent != nil { // QEMU's vsock is on PCI, Nitro's is not
		cmdline = strings.Replace(cmdline, " pci=off", "", 1)
	}
	cmdline += m.moreCmdline + " rdinit=/loader quiet " + m.cmdline
	args := []string{"-machine", m.board + ",accel=tcg,memory-backend=ram", "-cpu", "max", "-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-m", "256M",
		"-nodefaults", "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-no-user-config",
		"-kernel", kernel, "-initrd", initrd.Name(), "-append", cmdline}
	if m.parent != nil {
		args = append(args, "-chardev", "socket,id=vsock,path="+m.parent.path, "-device", "vhost-user-vsock-pci,chardev=vsock")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	console, err := exec.CommandContext(ctx, qemu, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu: %v\n%s", err, console)
	}
	return strings.ReplaceAll(string(console), "\r\n", "\n")
}

// probed returns what the program printed, by name.
func probed(console string) map[string][]string {
	found := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^probe: (.*?) "(.*)"$`).FindAllStringSubmatch(console, -1) {
		found[m[1]] = append(found[m[1]], m[2])
	}
	return found
}

// talk returns what the machine said to its parent: operation, address, data.
func (p *parent) talk() []string {
	var all []string
	for len(p.seen) > 0 {
		s := <-p.seen
		if s.op == opRequest || s.op == opData {
			all = append(all, fmt.Sprintf("%d %d->%d:%d %x", s.op, s.srcCID, s.dstCID, s.dstPort, s.data))
		}
	}
	return all
}

// beat is a heartbeat.
var beat = []string{"1 16->3:9000 ", "5 16->3:9000 b7"}

// TestBoot builds an image whose program is told everything that a process can
// have, boots it, and compares what the program finds.
func TestBoot(t *testing.T) { testBoot(t, x86) }

func TestBootAArch64(t *testing.T) {
	need.Long(t)
	testBoot(t, arm)
}

func testBoot(t *testing.T, a architecture) {
	need.Program(t, a.qemu)
	groups := "root:x:0:\ntty:x:5:app\napp:x:1001:\nmore:x:1002:other,app\n"
	m := machine{
		architecture: a,
		parent:       newParent(t),
		image: &eifbuild.Config{
			Entries: []eifbuild.Entry{
				file("bin/probe", a.program(t, "probe")), file("etc/group", []byte(groups)),
				file("etc/passwd", []byte("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")),
				{Name: "bin/again", Type: eifbuild.Hardlink, Link: "bin/probe"},
			},
			Entrypoint: []string{"again", "look"},
			Cmd:        []string{"two words", "", "new\nline"},
			Env:        []string{"PATH=/sbin:/bin", "TEXT=a\nb"},
			WorkingDir: "/srv/work",
			User:       "app",
		},
	}
	console := m.boot(t)
	if got := m.parent.talk(); !slices.Equal(got, beat) {
		t.Errorf("the parent heard %q", got)
	}
	got := probed(console)
	for name, want := range map[string][]string{
		"args":             {`again|look|two words||new\nline`},
		"env":              {`PATH=/sbin:/bin|TEXT=a\nb|HOME=/home/app`},
		"dir":              {"/srv/work"},
		"uid":              {"1000 1000 1001 1001"},
		"groups":           {"[5 1002]"},
		"parent":           {"1 true"},
		"hostname":         {"localhost"},
		"open":             {"true"},
		"mode /":           {"drwxr-xr-x"},
		"mode /run":        {"drwxr-xr-x"},
		"mode /tmp":        {"dtrwxrwxrwx"},
		"mode /dev/shm":    {"dtrwxrwxrwx"},
		"mode /srv/work":   {"drwxr-xr-x"},
		"mode /dev/vsock":  {"Dcrw-rw-rw-"},
		"link /dev/fd":     {"/proc/self/fd"},
		"link /dev/stdin":  {"/proc/self/fd/0"},
		"link /dev/stdout": {"/proc/self/fd/1"},
		"link /dev/stderr": {"/proc/self/fd/2"},
		// Log files of many images are links to these.
		"reopen /dev/stdin":  {"<nil>"},
		"reopen /dev/stdout": {"<nil>"},
		"reopen /dev/stderr": {"<nil>"},
		"root":               {"bin", "dev", "etc", "proc", "run", "srv", "sys", "tmp"},
		"loopback":           {"hello"},
		"user namespace":     {"<nil>"},
		"orphan":             {"true", "true", "true"},
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	for _, want := range []string{
		"devtmpfs /dev devtmpfs rw,nosuid,noexec",
		"proc /proc proc rw,nosuid,nodev,noexec",
		"tmpfs /run tmpfs rw,nosuid,nodev,noexec",
		"tmpfs /tmp tmpfs rw,nosuid,nodev,noexec",
		"tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec",
		"devpts /dev/pts devpts rw,nosuid,noexec",
		"sysfs /sys sysfs rw,nosuid,nodev,noexec",
		"cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec",
	} {
		if !slices.ContainsFunc(got["mount"], func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("no mount %q in %q", want, got["mount"])
		}
	}
	for _, want := range []string{"SigBlk: 0000000000000000", "SigIgn: 0000000000000000", "CapEff: 0000000000000000"} {
		if !slices.Contains(got["status"], want) {
			t.Errorf("no %q in %q", want, got["status"])
		}
	}
	wantEnd(t, console, "the program ended with status 7; restarting")
}

// wantEnd: init's only words are these, and then the machine restarts.
func wantEnd(t *testing.T, console, want string) {
	t.Helper()
	said := regexp.MustCompile(`(?m)^cretula init: (.*)$`).FindAllStringSubmatch(console, -1)
	if len(said) != 1 || !strings.Contains(said[0][1], want) {
		t.Errorf("init says %q, want %q; the console:\n%s", said, want, console)
	}
	if !strings.Contains(console, "reboot: Restarting system") {
		t.Errorf("no restart; the console:\n%s", console)
	}
}

// rootProcess runs the probe as root.
func rootProcess(args ...string) *process.Process { return &process.Process{Args: args, Dir: "/"} }

// TestBootSignals: a program run by root can send init what it likes, and its own
// end by a signal is told.
func TestBootSignals(t *testing.T) {
	need.Long(t)
	m := machine{parent: newParent(t), process: rootProcess("/bin/probe", "signal")}
	console := m.boot(t)
	if got := probed(console); !slices.Equal(got["alive"], []string{"<nil>"}) || got["kill"] != nil {
		t.Errorf("got %q", got)
	}
	wantEnd(t, console, "the program was killed by signal 9 (killed); restarting")
}

// TestBootStoppedConsole: a program that stops the console cannot keep the machine
// from restarting. Init's word is lost then.
func TestBootStoppedConsole(t *testing.T) {
	need.Long(t)
	m := machine{parent: newParent(t), process: rootProcess("/bin/probe", "stop"), cmdline: "panic=1"}
	if console := m.boot(t); strings.Contains(console, "probe:") || strings.Contains(console, "cretula init:") || strings.Contains(console, "panic") {
		t.Errorf("the console:\n%s", console)
	}
}

// TestBootWithoutDescriptors: a kernel that cannot open a console starts init
// without descriptors 0 to 2. The Go runtime then opens /dev/null, and ends if
// there is none: that is what the nodes in the bootstrap ramdisk are for.
func TestBootWithoutDescriptors(t *testing.T) {
	need.Long(t)
	m := machine{parent: newParent(t), process: rootProcess("/bin/probe", "sleep"), cmdline: "panic=1 -- close"}
	wantEnd(t, m.boot(t), "the program ended with status 0; restarting")
	if got := m.parent.talk(); !slices.Equal(got, beat) {
		t.Errorf("the parent heard %q", got)
	}
	m.parent, m.noNodes = newParent(t), true
	if console := m.boot(t); !strings.Contains(console, "Kernel panic - not syncing: Attempted to kill init!") || len(m.parent.talk()) > 0 {
		t.Errorf("without the nodes too; the console:\n%s", console)
	}
}

// TestBootFailures: each failure is one line that names the step, and a restart.
func TestBootFailures(t *testing.T) {
	need.Long(t)
	ok := rootProcess("/bin/probe", "sleep")
	none := []string(nil)
	zeros := file("rootfs/zeros", make([]byte, 150<<20))
	script := file("rootfs/bin/script", []byte("#!/no/interpreter\n"))
	text := file("rootfs/bin/text", []byte("no program\n"))
	for _, c := range []struct {
		name string
		m    machine
		want string
		talk []string
	}{
		{"no vsock", machine{process: ok}, "heartbeat: make a vsock socket: address family not supported by protocol (errno 97)", nil},
		{"no parent", machine{process: ok, parent: &parent{refuse: true}}, "heartbeat: connect to CID 3 port 9000: connection reset by peer (errno 104)", beat[:1]},
		{"wrong answer", machine{process: ok, parent: &parent{answer: 0xb8}}, "heartbeat: the parent instance answered something else than 0xb7", beat},
		{"bad driver", machine{process: ok, parent: new(parent), driver: []byte("no module")},
			"load /nsm.ko, which must be made for this very kernel: exec format error (errno 8)", none},
		{"no application", machine{noApp: true, parent: new(parent)}, "/process is missing: the kernel has not unpacked", none},
		{"little memory", machine{process: ok, more: []eifbuild.Entry{zeros}, parent: new(parent)}, "/process is missing: the kernel has not unpacked", none},
		{"bad process", machine{file: []byte("arg=x\x00"), parent: new(parent)}, "read /process: process: 0 records dir, not one", none},
		{"large process", machine{file: make([]byte, process.MaxSize+1), parent: new(parent)}, "read /process: process: 1048577 bytes", none},
		{"no program", machine{process: rootProcess("probes"), parent: new(parent)}, `there is no program "probes" in PATH`, beat},
		{"no file", machine{process: rootProcess("/bin/probes"), parent: new(parent)}, "start /bin/probes: no such file or directory (errno 2)", beat},
		{"script", machine{process: rootProcess("/bin/script"), more: []eifbuild.Entry{script}, parent: new(parent)},
			"start /bin/script: no such file or directory (errno 2)", beat},
		{"text", machine{process: rootProcess("/bin/text"), more: []eifbuild.Entry{text}, parent: new(parent)},
			"start /bin/text: exec format error (errno 8)", beat},
		{"folder in the way", machine{process: &process.Process{Args: []string{"probe"}, Dir: "/bin/probe/x"}, parent: new(parent)},
			"make the working directory /bin/probe/x: not a directory (errno 20)", beat},
	} {
		t.Run(c.name, func(t *testing.T) {
			if p := c.m.parent; p != nil {
				c.m.parent = newParent(t)
				c.m.parent.refuse = p.refuse
				if p.answer != 0 {
					c.m.parent.answer = p.answer
				}
			}
			wantEnd(t, c.m.boot(t), c.want)
			if c.m.parent == nil {
				return
			}
			if got := c.m.parent.talk(); !slices.Equal(got, c.talk) {
				t.Errorf("the parent heard %q, want %q", got, c.talk)
			}
		})
	}
}
