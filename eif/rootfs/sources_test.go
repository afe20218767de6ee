// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	gzipTo(t, &buf, bytes.NewReader(data))
	return buf.Bytes()
}

func gzipTo(t testing.TB, out io.Writer, r io.Reader) {
	t.Helper()
	w := gzip.NewWriter(out)
	if _, err := io.Copy(w, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func zst(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func toJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// folderTar writes the files of a folder as an archive.
func folderTar(t testing.TB, dir string, more ...tm) []byte {
	t.Helper()
	var members []tm
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		members = append(members, reg(filepath.ToSlash(rel), string(data)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t, append(members, more...)...)
}

// oldSave writes the archive that docker wrote before version 25, in which a
// layer that another image has is a symbolic link.
func oldSave(t testing.TB, config []byte, layers ...[]byte) []byte {
	t.Helper()
	id := digestOf(config)
	var members []tm
	var names []string
	for i, l := range layers {
		name := digestOf(append([]byte{byte(i)}, l...))
		members = append(members, dir(name), reg(name+"/VERSION", "1.0"), reg(name+"/json", "{}"))
		if i == 0 {
			members = append(members, dir("shared"), reg("shared/layer.tar", string(l)), sym(name+"/layer.tar", "../shared/layer.tar"))
		} else {
			members = append(members, reg(name+"/layer.tar", string(l)))
		}
		names = append(names, name+"/layer.tar")
	}
	manifest := []savedImage{{Config: id + ".json", RepoTags: []string{"app:1"}, Layers: names}}
	members = append(members, reg(id+".json", string(config)), reg("manifest.json", string(toJSON(t, manifest))), reg("repositories", "{}"))
	return tarOf(t, members...)
}

func rawConfig(t testing.TB, im v1.Image) []byte {
	t.Helper()
	raw, err := im.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var appConfig = v1.ConfigFile{
	Created: v1.Time{Time: time.Unix(testTime, 0).UTC()}, Author: "me",
	Config: v1.Config{Entrypoint: []string{"/bin/<app>"}, Cmd: []string{"-v"}, Env: []string{"A=1"}, User: "app:5", WorkingDir: "/home",
		ExposedPorts: map[string]struct{}{"80/tcp": {}}, Labels: map[string]string{"z": "1", "b": "2"}},
}

// TestSources opens one image from everything that can hold it.
func TestSources(t *testing.T) {
	layers := stack(t, []tm{dir("bin"), reg("bin/app", "old"), reg("gone", ""), {}, reg("bin/app", "new"), reg(".wh.gone", ""), lnk("b", "bin/app")})
	const want = "b=new bin/ bin/app=>b"
	im := image(t, appConfig, layers...)
	dir := layoutOf(t, im)
	plain := tarOf(t, entriesMembers(t, open(t, dir, Options{}).Entries)...)
	saved := oldSave(t, rawConfig(t, im), layers...)
	made := filepath.Join(t.TempDir(), "made.tar")
	tag, err := name.NewTag("example.com/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(made, tag, im); err != nil {
		t.Fatal(err)
	}
	digest, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	layoutTar := folderTar(t, dir)
	both := folderTar(t, dir, reg("manifest.json", string(toJSON(t, []savedImage{{Config: "blobs/sha256/" + digestOf(rawConfig(t, im)),
		RepoTags: []string{"app:1"}, Layers: blobNames(t, im)}}))))
	for _, c := range []struct {
		name, source string
		image        bool
	}{
		{"layout folder", dir, true},
		{"layout folder named", "oci:" + dir, true},
		{"layout folder by tag", "oci:" + dir + ":t0", true},
		{"layout folder by digest", "oci:" + dir + "@" + digest.String(), true},
		{"layout tar", write(t, "x", layoutTar), true},
		{"layout tar named", "oci:" + write(t, "x", layoutTar) + ":t0", true},
		{"layout tar.gz", write(t, "x", gz(t, layoutTar)), true},
		{"docker save, old", write(t, "x", saved), true},
		{"docker save, old, named", "docker-archive:" + write(t, "x", saved) + ":app", false},
		{"docker save, old, gzip", "docker-archive:" + write(t, "x", gz(t, saved)) + ":app:1", true},
		{"docker save, new", write(t, "x", both), true},
		{"docker save, new, as an archive", "docker-archive:" + write(t, "x", both), true},
		{"docker save, new, as a layout", "oci:" + write(t, "x", both), true},
		{"go-containerregistry's archive", made, true},
		{"go-containerregistry's archive by name", "docker-archive:" + made + ":example.com/app:1", true},
		{"tarball", write(t, "x", plain), false},
		{"tarball named", "tar:" + write(t, "x", plain), false},
		{"tarball, gzip", write(t, "x", gz(t, plain)), false},
		{"tarball, gzip in two parts", write(t, "x", append(gz(t, plain[:700]), gz(t, plain[700:])...)), false},
		{"tarball, zstd", write(t, "x", zst(t, plain)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "docker save, old, named" {
				refused(t, c.source, Options{}, reason.Mismatch, "rootfs.image", `"app"`, "app:1")
				return
			}
			temp := t.TempDir()
			var read, total int64
			r := open(t, c.source, Options{TempDir: temp, Progress: func(r, of int64) { read, total = r, of }})
			if got := brief(t, r.Entries); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if read != total {
				t.Errorf("read %d of %d", read, total)
			}
			if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
				t.Errorf("there are files: %q", left) // unlinked as they are made
			}
			if !c.image {
				if r.ID != "" || r.HasArch || r.Inspect != nil || r.Config.Cmd != nil {
					t.Errorf("%+v", r)
				}
				return
			}
			if r.ID != digestOf(rawConfig(t, im)) || !r.HasArch || r.Arch != eif.ArchX86_64 || r.Config.User != "app:5" ||
				r.Config.WorkingDir != "/home" || strings.Join(r.Config.Entrypoint, " ") != "/bin/<app>" ||
				strings.Join(r.Config.Cmd, " ") != "-v" || strings.Join(r.Config.Env, " ") != "A=1" {
				t.Errorf("%+v", r)
			}
		})
	}
}

func entriesMembers(t testing.TB, entries []eifbuild.Entry) []tm {
	t.Helper()
	var members []tm
	r := tar.NewReader(bytes.NewReader(entriesTar(t, entries, nil)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, tm{*h, string(body)})
	}
}

func blobNames(t testing.TB, im v1.Image) []string {
	t.Helper()
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, "blobs/sha256/"+d.Hex)
	}
	return names
}

// TestInspect: the whole text, twice the same.
func TestInspect(t *testing.T) {
	layer := tarOf(t, reg("f", "x"))
	im := image(t, appConfig, layer)
	config := rawConfig(t, im)
	saved := write(t, "x", oldSave(t, config, layer))
	want := `{"Id":"sha256:` + digestOf(config) + `","RepoTags":["app:1"],"RepoDigests":[],"Parent":"","Comment":"",` +
		`"Created":"2023-11-14T22:13:20Z","DockerVersion":"","Author":"me","Config":{"Cmd":["-v"],"Entrypoint":["/bin/<app>"],` +
		`"Env":["A=1"],"ExposedPorts":{"80/tcp":{}},"Labels":{"b":"2","z":"1"},"User":"app:5","WorkingDir":"/home"},` +
		`"Architecture":"amd64","Os":"linux","Size":2048,"RootFS":{"Type":"layers","Layers":["sha256:` + digestOf(layer) + `"]}}`
	for range 2 {
		if got := string(open(t, saved, Options{}).Inspect); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestCompressions: a layer's first bytes tell how it is compressed.
func TestCompressions(t *testing.T) {
	layer := tarOf(t, reg("f", "x"))
	for _, c := range []struct {
		name   string
		stored []byte
		kind   types.MediaType
	}{
		{"none", layer, types.OCIUncompressedLayer},
		{"gzip", gz(t, layer), types.OCILayer},
		{"zstd", zst(t, layer), types.OCILayerZStd},
		{"docker", gz(t, layer), types.DockerLayer},
		{"zstd said to be gzip", zst(t, layer), types.OCILayer},
	} {
		t.Run(c.name, func(t *testing.T) {
			im, err := mutate.Append(image(t, v1.ConfigFile{}), mutate.Addendum{Layer: asStored{static.NewLayer(c.stored, c.kind), layer}})
			if err != nil {
				t.Fatal(err)
			}
			r := open(t, layoutOf(t, im), Options{})
			if got := brief(t, r.Entries); got != "f=x" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// asStored is a layer whose stored bytes are given.
type asStored struct {
	v1.Layer
	unpacked []byte
}

func (l asStored) DiffID() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: digestOf(l.unpacked)}, nil
}

// TestExport: an OCI image with the tree of the first shared ramdisk, without
// what docker adds, comes out as AWS's tool makes it of docker's export.
func TestExport(t *testing.T) {
	c := treeCases(t)[0]
	if c.name != "app-1" {
		t.Fatalf("the first is %s", c.name)
	}
	added := map[string]bool{}
	for _, e := range initLayer {
		added[e.Name], added[e.Name+"/"] = true, true
	}
	var own []eifbuild.Entry
	for _, e := range c.entries {
		if !added[e.Name] && e.Name != "dev/" {
			own = append(own, e)
		}
	}
	if len(own) != len(c.entries)-11 {
		t.Fatalf("%d of %d entries are the image's own", len(own), len(c.entries))
	}
	config := v1.ConfigFile{Config: v1.Config{Entrypoint: c.config.Entrypoint, Cmd: c.config.Cmd, Env: c.config.Env, WorkingDir: c.config.WorkingDir}}
	whole := entriesTar(t, own, c.lost)
	// In layers: first with mount points that are in docker's way, and more.
	lower := tarOf(t, reg("etc/hosts", "mine"), sym("etc/mtab", "../proc/mounts"), reg("dev", "a file"), reg("bin/app", "older"), reg("junk/x", ""))
	upper := tarOf(t, reg(".wh.junk", ""))
	for name, layers := range map[string][][]byte{"one layer": {whole}, "three layers": {lower, whole, upper}} {
		t.Run(name, func(t *testing.T) {
			r := open(t, layoutOf(t, image(t, config, layers...)), Options{})
			entries, err := r.DockerExport()
			if err != nil {
				t.Fatal(err)
			}
			c.checkRamdisk(t, entries)
			if strings.Join(r.Config.Cmd, "\n") != strings.Join(c.cmd, "\n") || strings.Join(r.Config.Env, "\n") != strings.Join(c.env, "\n") {
				t.Errorf("config %+v", r.Config)
			}
			if len(r.Lost) != 1 || !strings.HasPrefix(r.Lost[0], "home/app/sealed.bin: file capabilities") || !strings.Contains(r.Lost[0], "user.origin") {
				t.Errorf("lost %q", r.Lost)
			}
		})
	}
}

// TestExportAdds: what docker removes and adds, without a vector.
func TestExportAdds(t *testing.T) {
	r := open(t, layoutOf(t, image(t, v1.ConfigFile{Config: v1.Config{WorkingDir: "srv/./x/../a/"}},
		tarOf(t, sym("etc", "usr/etc"), reg("usr/etc/passwd", "x"), dir("dev/pts"), reg("dev/pts/0", "y"), reg("proc", "z"), lnk("zz", "proc")))), Options{})
	entries, err := r.DockerExport()
	if err != nil {
		t.Fatal(err)
	}
	want := ".dockerenv= dev/ dev/console= dev/pts/ dev/pts/0=y dev/shm/ etc/ etc/hostname= etc/hosts= etc/mtab->/proc/mounts " +
		"etc/resolv.conf= proc/ srv/ srv/a/ sys/ usr/ usr/etc/ usr/etc/passwd=x zz=z"
	if got := brief(t, entries); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := brief(t, r.Entries); got != "dev/ dev/pts/ dev/pts/0=y etc->usr/etc proc=z usr/ usr/etc/ usr/etc/passwd=x zz=>proc" {
		t.Errorf("the entries themselves changed: %s", got)
	}
	for _, dir := range []string{"a\x00", "zz/a", strings.Repeat("x", 256)} {
		r.Config.WorkingDir = dir
		_, err := r.DockerExport()
		if got, ok := reason.Of(err); !ok || got != reason.Malformed {
			t.Errorf("working directory %.20q: %v", dir, err)
		}
	}
	folder := open(t, "dir:"+t.TempDir(), Options{})
	if entries, err := folder.DockerExport(); err != nil || len(entries) != 0 {
		t.Errorf("a folder's: %v, %v", entries, err)
	}
}

// TestTarballOrder: a tarball's entries stay in its order, with what defines
// doubles, parents and links.
func TestTarballOrder(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []tm
		want    string
	}{
		{"order", []tm{reg("z", "1"), dir("b"), reg("b/x", "2"), reg("a", "3")}, "z=1 b/ b/x=2 a=3"},
		{"last of a name", []tm{reg("z", "1"), reg("a", "2"), reg("z", "3")}, "a=2 z=3"},
		{"directory again", []tm{dir("d"), reg("d/x", "1"), reg("a", "2"), dir("d")}, "d/ d/x=1 a=2"},
		{"missing parents", []tm{reg("z", ""), reg("c/d/e", "1"), reg("a", "2"), dir("c")}, "z= c/ c/d/ c/d/e=1 a=2"},
		{"hard links", []tm{reg("z", "1"), lnk("a", "z"), lnk("y", "a")}, "z=1 a=>z y=>z"},
		{"first name of a file replaced", []tm{reg("z", "1"), lnk("a", "z"), reg("z", "2")}, "a=1 z=2"},
		{"whiteouts are names", []tm{reg(".wh.a", "1"), reg("a", "2")}, ".wh.a=1 a=2"},
	} {
		r := open(t, "tar:"+write(t, "x", tarOf(t, c.members...)), Options{})
		if got := brief(t, r.Entries); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestInPlaceChanges: an archive that is read in place must stay as it was.
func TestInPlaceChanges(t *testing.T) {
	path := write(t, "x", tarOf(t, reg("f", "content")))
	r := open(t, path, Options{})
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, bytes.Replace(data, []byte("content"), []byte("CONTENT"), 1), 0o600))
	must(t, os.Chtimes(path, time.Time{}, time.Unix(testTime, 0)))
	f, err := r.Entries[0].Content.Open()
	must(t, err)
	_, err = io.ReadAll(f)
	if err == nil {
		t.Fatal("not noticed")
	}
	checkRefusal(t, err, reason.Mismatch, "rootfs.changed")
}
