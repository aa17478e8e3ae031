# Drives a page in headless Chromium over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/).
# Usage: from page import Page
#   with Page("report.html", dark=False) as page: page.run("document.title")
import base64, http.client, json, os, subprocess, tempfile, time
import websocket


class Page:
    def __init__(self, path, dark=False, width=1240, height=900):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.browser = subprocess.Popen(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={self.profile.name}",
             f"--window-size={width},{height}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            self.socket = websocket.create_connection(self.address(), timeout=60)
        except BaseException:
            self.close()
            raise
        self.number = 0
        self.problems = []
        self.requests = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url="file://" + os.path.abspath(path))
        self.wait("document.documentElement?.dataset.ready === 'yes'")

    def address(self):
        file = os.path.join(self.profile.name, "DevToolsActivePort")
        for _ in range(600):
            if os.path.exists(file) and len(open(file).read().split()) == 2:
                break
            time.sleep(0.05)
        port = int(open(file).read().split()[0])
        for _ in range(100):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/json")
            for target in json.load(connection.getresponse()):
                if target["type"] == "page":
                    return target["webSocketDebuggerUrl"]
            time.sleep(0.1)
        raise RuntimeError("the browser shows no page")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(message["params"]["exceptionDetails"]["text"])
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(message["error"]["message"])
                return message["result"]

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", "exception"))
        return result["result"].get("value")

    def wait(self, condition, seconds=30):
        end = time.time() + seconds
        while time.time() < end:
            if self.run(condition):
                return
            time.sleep(0.05)
        raise RuntimeError("never came: " + condition)

    def press(self, key, code=None, text=None):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key,
                      **({"text": text} if text and kind == "keyDown" else {}))

    def drag(self, x1, x2, y):
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x1, y=y, button="left", clickCount=1)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x2, y=y, button="left")
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x2, y=y, button="left", clickCount=1)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def close(self):
        try:
            os.killpg(self.browser.pid, 9)
        except ProcessLookupError:
            pass
        self.browser.wait()
        self.profile.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
