// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	pkgregistry "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/reason"
)

// serve starts a registry behind a handler and returns its host.
func serve(t *testing.T, around func(http.Handler) http.Handler) string {
	t.Helper()
	h := pkgregistry.New(pkgregistry.Logger(log.New(io.Discard, "", 0)))
	if around != nil {
		h = around(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// noFiles hides the credentials of whoever runs the test.
func noFiles(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "")
}

func push(t *testing.T, ref string, im v1.Image, auth authn.Authenticator) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, im, remote.WithAuth(auth)); err != nil {
		t.Fatal(err)
	}
}

func TestRegistry(t *testing.T) {
	noFiles(t)
	host := serve(t, nil)
	im := image(t, appConfig, stack(t, []tm{reg("a", "1"), reg("b", "2"), {}, reg(".wh.a", "")})...)
	push(t, host+"/team/app:1", im, authn.Anonymous)
	digest, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"registry:", "docker://"} {
		var read, total int64
		r := open(t, prefix+host+"/team/app:1", Options{Progress: func(r, of int64) { read, total = r, of }})
		if got := brief(t, r.Entries); got != "b=2" || read != total || read == 0 {
			t.Errorf("got %s, read %d of %d", got, read, total)
		}
		for _, word := range []string{`"RepoTags":["` + host + `/team/app:1"]`, `"RepoDigests":["` + host + `/team/app@` + digest.String() + `"]`} {
			if !strings.Contains(string(r.Inspect), word) {
				t.Errorf("%s lacks %s", r.Inspect, word)
			}
		}
	}
	byDigest := open(t, "registry:"+host+"/team/app@"+digest.String(), Options{})
	if got := brief(t, byDigest.Entries); got != "b=2" || !strings.Contains(string(byDigest.Inspect), `"RepoTags":[]`) {
		t.Errorf("by digest: %s %s", got, byDigest.Inspect)
	}
	refused(t, "registry:"+host+"/team/app:2", Options{}, reason.Unsupported, "rootfs.registry.not-found", "404", "team/app")
	refused(t, "registry:"+host+"/other:1", Options{}, reason.Unsupported, "rootfs.registry.not-found")
	refused(t, "registry:"+host+"/Team/app:1", Options{}, reason.Malformed, "rootfs.reference")
}

// index makes an index of images with their platforms, and an attestation.
func index(t *testing.T, images map[string]v1.Image) v1.ImageIndex {
	t.Helper()
	var idx v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for platform, im := range images {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: im, Descriptor: v1.Descriptor{Platform: p}})
	}
	return mutate.AppendManifests(idx, mutate.IndexAddendum{Add: image(t, v1.ConfigFile{Architecture: "unknown", OS: "unknown"}, nil...),
		Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}}})
}

func TestArchitectures(t *testing.T) {
	noFiles(t)
	host := serve(t, nil)
	intel := image(t, v1.ConfigFile{}, tarOf(t, reg("intel", "")))
	newer := image(t, v1.ConfigFile{Variant: "v3"}, tarOf(t, reg("newer", "")))
	arm := image(t, v1.ConfigFile{Architecture: "arm64", Variant: "v8"}, tarOf(t, reg("arm", "")))
	windows := image(t, v1.ConfigFile{OS: "windows"}, tarOf(t, reg("windows", "")))
	put := func(tag string, idx v1.ImageIndex) {
		ref, err := name.ParseReference(host + "/app:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(ref, idx); err != nil {
			t.Fatal(err)
		}
	}
	all := index(t, map[string]v1.Image{"linux/amd64/v3": newer, "linux/amd64": intel, "linux/arm64/v8": arm, "windows/amd64": windows})
	put("all", all)
	put("nested", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: all}))
	put("arm", index(t, map[string]v1.Image{"linux/arm64/v8": arm}))
	deep := all
	for range 4 {
		deep = mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: deep})
	}
	put("deep", deep)
	if _, err := newOpening(t.Context(), Options{}).choose(make([]v1.Descriptor, maxImages+1)); ruleOf(err) != "rootfs.manifest" {
		t.Errorf("%v", err)
	}
	push(t, host+"/app:one", arm, authn.Anonymous)
	push(t, host+"/app:windows", windows, authn.Anonymous)

	for _, tag := range []string{"all", "nested"} {
		for arch, want := range map[eif.Arch]string{eif.ArchX86_64: "intel=", eif.ArchAArch64: "arm="} {
			r := open(t, "registry:"+host+"/app:"+tag, Options{Arch: arch})
			if got := brief(t, r.Entries); got != want || r.Arch != arch || !r.HasArch {
				t.Errorf("%s, %v: %s", tag, arch, got)
			}
		}
	}
	refused(t, "registry:"+host+"/app:arm", Options{}, reason.Mismatch, "rootfs.arch", "linux/amd64", "linux/arm64/v8")
	refused(t, "registry:"+host+"/app:one", Options{}, reason.Mismatch, "rootfs.arch", "linux/arm64", "linux/amd64")
	refused(t, "registry:"+host+"/app:windows", Options{}, reason.Mismatch, "rootfs.arch", "windows")
	refused(t, "registry:"+host+"/app:deep", Options{}, reason.Malformed, "rootfs.manifest")
}

// withLogin asks for credentials as registries do.
func withLogin(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func TestRegistryLogin(t *testing.T) {
	noFiles(t)
	host := serve(t, withLogin)
	source := "registry:" + host + "/app:1"
	push(t, host+"/app:1", image(t, v1.ConfigFile{}, tarOf(t, reg("f", "x"))), &authn.Basic{Username: "me", Password: "secret"})
	refused(t, source, Options{}, reason.Unsupported, "rootfs.registry.credentials", "docker login "+host, "podman login", "401")

	file := func(password string) []byte {
		auth := base64.StdEncoding.EncodeToString([]byte("me:" + password))
		return fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth)
	}
	put := func(path string, data []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	podman := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	docker := filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json")
	for _, path := range []string{podman, docker} {
		put(path, file("secret"))
		if got := brief(t, open(t, source, Options{}).Entries); got != "f=x" {
			t.Errorf("%s: got %s", path, got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	put(docker, file("hidden-word"))
	_, err := Open(t.Context(), source, Options{})
	checkRefusal(t, err, reason.Unsupported, "rootfs.registry.credentials")
	if strings.Contains(err.Error(), "hidden-word") {
		t.Error("the error holds the password")
	}
}

// TestRegistryLies: what a registry sends is checked against what it promised.
func TestRegistryLies(t *testing.T) {
	noFiles(t)
	im := image(t, v1.ConfigFile{}, tarOf(t, reg("f", strings.Repeat("x", 3000))))
	manifest, err := im.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	layer, config := manifest.Layers[0], manifest.Config
	path := "/blobs/" + layer.Digest.String()
	answer := func(match string, change func([]byte) []byte) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, match) {
					h.ServeHTTP(w, r)
					return
				}
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
				w.WriteHeader(rec.Code)
				w.Write(change(rec.Body.Bytes()))
			})
		}
	}
	flip := func(b []byte) []byte { b[len(b)-6] ^= 1; return b }
	t.Run("by digest", func(t *testing.T) {
		digest, err := im.Digest()
		must(t, err)
		other, err := image(t, v1.ConfigFile{}, tarOf(t, reg("g", ""))).RawManifest()
		must(t, err)
		host := serve(t, answer("/manifests/"+digest.String(), func([]byte) []byte { return other }))
		push(t, host+"/app:1", im, authn.Anonymous)
		refused(t, "registry:"+host+"/app@"+digest.String(), Options{}, reason.Mismatch, "rootfs.manifest.digest")
	})
	for _, c := range []struct {
		name   string
		why    reason.Reason
		rule   string
		around func(http.Handler) http.Handler
	}{
		{"layer changed", reason.Mismatch, "layer.digest", answer(path, flip)},
		{"layer short", reason.Mismatch, "layer.digest", answer(path, func(b []byte) []byte { return b[:len(b)-1] })},
		{"layer long", reason.Mismatch, "layer.digest", answer(path, func(b []byte) []byte { return append(b, 0) })},
		{"other layer", reason.Mismatch, "layer.digest", answer(path, func([]byte) []byte { return gz(t, tarOf(t, reg("g", ""))) })},
		{"config", reason.Mismatch, "layer.digest", answer("/blobs/"+config.Digest.String(), flip)},
		{"manifest size", reason.Malformed, "manifest", answer("/manifests/1", func([]byte) []byte { return []byte(strings.Repeat(" ", 5<<20)) })},
		{"manifest", reason.Malformed, "manifest", answer("/manifests/1", func(b []byte) []byte { return b[:len(b)-2] })},
		{"no manifest", reason.Unsupported, "manifest", answer("/manifests/1", func([]byte) []byte { return []byte("{}") })},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := serve(t, c.around)
			push(t, host+"/app:1", im, authn.Anonymous)
			temp := t.TempDir()
			refused(t, "registry:"+host+"/app:1", Options{TempDir: temp}, c.why, "rootfs."+c.rule)
			if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestRegistryConnections(t *testing.T) {
	noFiles(t)
	asked := 0
	count := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme == "http" {
			asked++
		}
		return nil, fmt.Errorf("no network here")
	})
	for _, host := range []string{"10.0.0.1:5000", "registry.local", "192.168.1.1", "example.com"} {
		_, err := Open(t.Context(), "registry:"+host+"/app:1", Options{Transport: count})
		if err == nil || asked != 0 {
			t.Errorf("%s was asked %d times in the clear: %v", host, asked, err)
		}
	}
	for _, host := range []string{"10.0.0.1:5000", "registry.example.com:5000"} {
		asked = 0
		if _, err := Open(t.Context(), "registry:"+host+"/app:1", Options{Transport: count, PlainHTTP: true}); err == nil || asked == 0 {
			t.Errorf("%s is not asked where it is allowed: %v", host, err)
		}
	}
	plain := roundTripper(func(r *http.Request) (*http.Response, error) { return nil, http.ErrSchemeMismatch })
	refused(t, "registry:example.com:5000/app:1", Options{Transport: plain}, reason.Unsupported, "rootfs.registry.plain-http", "does not answer over TLS")

	// The certificate of this server has an authority of its own.
	s := httptest.NewTLSServer(pkgregistry.New(pkgregistry.Logger(log.New(io.Discard, "", 0))))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer s.Close()
	source := "registry:" + strings.TrimPrefix(s.URL, "https://") + "/app:1"
	refused(t, source, Options{}, reason.Unsupported, "rootfs.registry.tls", "authority")
	refused(t, source, Options{Transport: s.Client().Transport}, reason.Unsupported, "rootfs.registry.not-found")
}

// TestRegistryRedirect: a registry that sends us to where a blob is cannot send
// us to an unencrypted place elsewhere.
func TestRegistryRedirect(t *testing.T) {
	noFiles(t)
	im := image(t, v1.ConfigFile{}, tarOf(t, reg("f", "x")))
	var elsewhere string
	host := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:") && elsewhere != "" {
				http.Redirect(w, r, elsewhere+r.URL.Path+"?signature=secret-word", http.StatusTemporaryRedirect)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	push(t, host+"/app:1", im, authn.Anonymous)
	store := serve(t, nil)
	push(t, store+"/app:1", im, authn.Anonymous)
	elsewhere = "http://" + store
	if got := brief(t, open(t, "registry:"+host+"/app:1", Options{}).Entries); got != "f=x" {
		t.Errorf("got %s", got)
	}
	elsewhere = "http://192.0.2.1"
	_, err := Open(t.Context(), "registry:"+host+"/app:1", Options{})
	if err == nil {
		t.Fatal("taken")
	}
	checkRefusal(t, err, reason.Unsupported, "rootfs.registry.plain-http")
	if strings.Contains(err.Error(), "secret-word") {
		t.Errorf("the error holds what signs the address: %v", err)
	}
}

// TestRegistryRedirectedManifest: what is read into memory is bounded wherever it
// comes from.
func TestRegistryRedirectedManifest(t *testing.T) {
	noFiles(t)
	var sent atomic.Int64
	host := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.Contains(r.URL.Path, "/manifests/"):
				http.Redirect(w, r, "/blobs/sha256:0?here=1", http.StatusTemporaryRedirect)
			case strings.Contains(r.URL.Path, "/blobs/"):
				w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
				for sent.Load() < 64<<20 {
					n, err := w.Write(make([]byte, 1<<20))
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			default:
				h.ServeHTTP(w, r)
			}
		})
	})
	if _, err := Open(t.Context(), "registry:"+host+"/app:1", Options{}); err == nil {
		t.Error("taken")
	}
	if n := sent.Load(); n == 0 || n >= 64<<20 {
		t.Errorf("%d bytes were read", n)
	}
}

// TestLayoutAttestations: they do not make a choice of one image.
func TestLayoutAttestations(t *testing.T) {
	var list []v1.Descriptor
	for i, platform := range []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"},
		{OS: "unknown", Architecture: "unknown"}, {OS: "unknown", Architecture: "unknown"}} {
		list = append(list, v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(fmt.Sprint(i), 64)}, Platform: &platform})
	}
	if found, err := selectImages(list, ""); err != nil || len(found) != 2 {
		t.Errorf("%v, %v", found, err)
	}
	list[1].Platform = list[0].Platform
	if _, err := selectImages(list, ""); ruleOf(err) != "rootfs.image" {
		t.Errorf("%v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestManifestsRefused: documents that could be read in two ways, or are no
// images.
func TestManifestsRefused(t *testing.T) {
	im := image(t, v1.ConfigFile{}, tarOf(t, reg("f", "")))
	raw, err := im.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		f(m)
		return toJSON(t, m)
	}
	first := func(m map[string]any) map[string]any { return m["layers"].([]any)[0].(map[string]any) }
	for _, c := range []struct {
		name string
		why  reason.Reason
		rule string
		doc  []byte
	}{
		{"index and manifest", reason.Malformed, "manifest", edit(func(m map[string]any) { m["manifests"] = []any{} })},
		{"other type", reason.Malformed, "manifest", edit(func(m map[string]any) { m["mediaType"] = string(types.OCIImageIndex) })},
		{"no JSON", reason.Malformed, "manifest", []byte("{")},
		{"first version", reason.Unsupported, "manifest", edit(func(m map[string]any) { delete(m, "layers"); m["fsLayers"] = []any{} })},
		{"artifact", reason.Unsupported, "manifest", edit(func(m map[string]any) { m["config"].(map[string]any)["mediaType"] = "application/x" })},
		{"layer type", reason.Unsupported, "layer.type", edit(func(m map[string]any) { first(m)["mediaType"] = "application/x+encrypted" })},
		{"layer size", reason.Mismatch, "layer.size", edit(func(m map[string]any) { first(m)["size"] = 1 })},
		{"no layers", reason.Malformed, "layers", edit(func(m map[string]any) { m["layers"] = []any{} })},
		{"missing blob", reason.Malformed, "layout", edit(func(m map[string]any) { first(m)["digest"] = "sha256:" + strings.Repeat("0", 64) })},
		{"other digest", reason.Malformed, "manifest", edit(func(m map[string]any) { first(m)["digest"] = "md5:" + strings.Repeat("0", 32) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := layoutOf(t, im)
			put := func(name string, data []byte) {
				if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put("blobs/sha256/"+digestOf(c.doc), c.doc)
			put("index.json", fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":"sha256:%s"}]}`,
				types.OCIManifestSchema1, len(c.doc), digestOf(c.doc)))
			refused(t, dir, Options{}, c.why, "rootfs."+c.rule)
		})
	}
}
