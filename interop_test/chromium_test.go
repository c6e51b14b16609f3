package interop_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A browser is a headless Chromium with one page, steered by its DevTools protocol over two pipes: no port,
// no driver program, no module. It can reach 127.0.0.1 and nothing else.
type browser struct {
	t       *testing.T
	in      io.Writer
	session string // the page's

	mu       sync.Mutex
	next     int                         // guarded by mu
	waiting  map[int]chan devtoolsAnswer // guarded by mu
	dead     error                       // guarded by mu; set when the browser has ended
	mistakes []string                    // guarded by mu; exceptions of scripts, answers 5xx
}

type devtoolsAnswer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
	Method string `json:"method"`
	Params struct {
		Exception struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
		Response struct {
			URL    string `json:"url"`
			Status int    `json:"status"`
		} `json:"response"`
	} `json:"params"`
}

// chromium is the path of a Chromium; "" when there is none.
func chromium() string {
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// startBrowser starts a Chromium, which ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := chromium()
	if path == "" {
		t.Fatal("there is no chromium; run scripts/setup.sh")
	}
	toChild, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromChild, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(scratch, unique("chromium")+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	home := t.TempDir()
	cmd := exec.Command(path,
		"--headless", "--remote-debugging-pipe", "--user-data-dir="+home, "--window-size=1280,900",
		"--no-sandbox", // needs a user that is not root; the pages are our own
		"--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-sync", "--no-first-run",
		"--renderer-process-limit=1", "--disable-features=BackForwardCache,SpareRendererForSitePerProcess", // cheap
		"--disable-background-networking", "--disable-component-update", "--disable-crash-reporter", "--disable-breakpad",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.ExtraFiles = []*os.File{toChild, fromChild} // its 3 and 4
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toChild.Close()
	fromChild.Close()
	b := &browser{t: t, in: in, waiting: map[int]chan devtoolsAnswer{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(out)
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its renderers, which hold the folder
		cmd.Wait()
		in.Close()
		<-read
		out.Close()
		if t.Failed() {
			for line := range strings.Lines(tail(log.Name())) {
				if !strings.Contains(line, "dbus") { // which it can do without
					t.Logf("chromium: %s", line)
				}
			}
		}
	})
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Emulation.setDeviceMetricsOverride",
		map[string]any{"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": false}, nil)
	return b
}

func (b *browser) read(out io.Reader) {
	messages := bufio.NewReader(out)
	var err error
	for {
		var line []byte
		if line, err = messages.ReadBytes(0); err != nil {
			break
		}
		var a devtoolsAnswer
		if err = json.Unmarshal(line[:len(line)-1], &a); err != nil {
			break
		}
		b.mu.Lock()
		switch {
		case a.ID != 0:
			if c := b.waiting[a.ID]; c != nil {
				c <- a // capacity 1, one answer
				delete(b.waiting, a.ID)
			}
		case a.Method == "Runtime.exceptionThrown":
			e := a.Params.Exception
			b.mistakes = append(b.mistakes, e.Text+" "+e.Exception.Description)
		case a.Method == "Network.responseReceived" && a.Params.Response.Status >= 500:
			b.mistakes = append(b.mistakes, fmt.Sprintf("%s answers %d", a.Params.Response.URL, a.Params.Response.Status))
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = fmt.Errorf("chromium has ended: %w", err)
	for _, c := range b.waiting {
		close(c)
	}
	b.waiting = nil
}

// try sends one command and waits for its result.
func (b *browser) try(method string, params map[string]any, result any) error {
	b.mu.Lock()
	if b.dead != nil {
		defer b.mu.Unlock()
		return b.dead
	}
	b.next++
	id, c := b.next, make(chan devtoolsAnswer, 1)
	b.waiting[id] = c
	b.mu.Unlock()
	message := map[string]any{"id": id, "method": method}
	if params != nil {
		message["params"] = params
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := b.in.Write(append(line, 0)); err != nil {
		return err
	}
	select {
	case a, ok := <-c:
		switch {
		case !ok:
			return b.dead
		case a.Error != nil:
			return fmt.Errorf("chromium: %s: %s", method, a.Error.Message)
		case result != nil:
			return json.Unmarshal(a.Result, result)
		}
		return nil
	case <-time.After(90 * time.Second):
		return fmt.Errorf("chromium does not answer to %s", method)
	}
}

func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatal(err)
	}
}

// tryEval evaluates JavaScript in the page into value, through JSON.
func (b *browser) tryEval(code string, value any) error {
	var got struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	if err := b.try("Runtime.evaluate", map[string]any{"expression": code, "returnByValue": true}, &got); err != nil {
		return err
	}
	if got.Exception != nil {
		return errors.New(got.Exception.Text + " " + got.Exception.Exception.Description)
	}
	if len(got.Result.Value) == 0 {
		return nil // undefined
	}
	return json.Unmarshal(got.Result.Value, value)
}

// wait waits until a JavaScript expression is true.
func (b *browser) wait(code string) {
	b.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		ok := false
		err := b.tryEval("Boolean("+code+")", &ok) // fails while one page gives way to the next
		if ok {
			return
		}
		if time.Now().After(deadline) {
			text := ""
			b.tryEval(`document.body.innerText`, &text) // "" is as good as an error here
			b.screenshot("failed")
			b.t.Fatalf("the page %q never fulfils %s (%v); its text:\n%s", b.text("title"), code, err, text[:min(len(text), 3000)])
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// open loads a page and waits until its scripts have run.
func (b *browser) open(url string) {
	b.t.Helper()
	var old any
	if err := b.tryEval(`window.left = true`, &old); err != nil { // the same address may be loaded again
		b.t.Fatal(err)
	}
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	b.wait(fmt.Sprintf(`!window.left && location.href === %q && document.readyState === "complete"`, url))
}

// text is what an element shows, "" when it is not there.
func (b *browser) text(selector string) string {
	text := ""
	if err := b.tryEval(fmt.Sprintf(`(document.querySelector(%q) || {textContent: ""}).textContent.trim()`, selector), &text); err != nil {
		return err.Error()
	}
	return text
}

// click presses an element with the mouse, once it can be seen and nothing lies over it.
func (b *browser) click(selector string) {
	b.t.Helper()
	spot := fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		if (!e || e.disabled) return null;
		e.scrollIntoView({block: "center", behavior: "instant"});
		const r = e.getBoundingClientRect(), x = r.left + r.width / 2, y = r.top + r.height / 2;
		const top = document.elementFromPoint(x, y);
		return r.width && (top === e || e.contains(top)) ? {x, y} : null;
	})()`, selector)
	b.wait(spot + " !== null")
	var at struct{ X, Y float64 }
	for last := at; ; last = at { // what still moves is waited for
		if err := b.tryEval(spot, &at); err != nil {
			b.t.Fatal(err)
		}
		if at == last {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, kind := range []string{"mouseMoved", "mousePressed", "mouseReleased"} {
		button := map[string]any{"type": kind, "x": at.X, "y": at.Y}
		if kind != "mouseMoved" {
			button["button"], button["clickCount"] = "left", 1
		}
		b.call("Input.dispatchMouseEvent", button, nil)
	}
}

// fill types a text into a field in place of what it holds.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	b.click(selector)
	b.wait(fmt.Sprintf(`(e => { e.select(); return document.activeElement === e })(document.querySelector(%q))`, selector))
	b.call("Input.insertText", map[string]any{"text": text}, nil)
	b.wait(fmt.Sprintf(`document.querySelector(%q).value === %q`, selector, text))
}

// screenshot writes the whole page as a PNG below .build/screenshots, which nobody commits.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	var shot struct {
		Data string `json:"data"`
	}
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": false}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(root, ".build/screenshots", name+".png")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// harmless fails the test when a page's script threw or a request was answered with a server error.
func (b *browser) harmless() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mistakes) > 0 {
		b.t.Errorf("the browser saw:\n%s", strings.Join(b.mistakes, "\n"))
	}
}
