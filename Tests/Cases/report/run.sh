# needs: tool chromium
# needs: file /usr/lib/python3/dist-packages/websocket/__init__.py
# needs: file /usr/share/seabios/bios.bin
# The report's numbers are those of stats; in a browser it draws, zooms by button, key and mouse, needs no network, and
# can be read in light and dark and printed.
tracectl record --firmware /usr/share/seabios/bios.bin --disk "$GUESTS/bootdisk.bin" --time -o boot.vmtrace >/dev/null
tracectl stats boot.vmtrace --json >stats.json
tracectl report boot.vmtrace --replay --fault adc-carry@100 -o report.html 2>/dev/null
echo "status $?"
PYTHONPATH=$ROOT/Tests/Browser /usr/bin/python3 - <<'PYTHON'
import json, re
from page import Page

stats = json.load(open("stats.json"))
text = open("report.html").read()
data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1))
print("statistics are those of stats:", data["statistics"] == stats)
profile = data["profile"]
counts = {exit["reason"]: exit["count"] for exit in stats["exits"]}
print("each bar is counted:", {row["name"]: sum(row["bins"]) for row in profile["timeline"]} == counts)
ports = {}
for port in stats["io"]:
    name = f'{"in" if port["isInput"] else "out"} port {port["port"]}'
    ports[name] = ports.get(name, 0) + port["count"]
rows = [row for row in profile["places"] if " port " in row["name"]]
print("each place is counted:", all(ports[row["name"]] == row["count"] == sum(row["bins"]) for row in rows), len(rows) > 20)
visits = sum(row["count"] for row in profile["instructions"])
print("the instructions shown make up most exits:", visits > 0.9 * stats["steps"]["count"])
print("waiting is a part of the clock:", 0 < profile["idleTicks"] < profile["clock"])
print("times are there:", profile["guestTime"]["count"] == stats["steps"]["count"])
assert "http" not in re.sub(r'id="data">.*?</script>', "", text, flags=re.S), "an address of the network"

for dark in (False, True):
    with Page("report.html", dark=dark) as page:
        number = lambda: page.run("document.querySelector('#numbers b').textContent")
        span = lambda: page.run("document.getElementById('range').textContent")
        painted = lambda id: page.run(
            f"(() => {{ const c = document.getElementById('{id}'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            " const seen = new Set(); for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return seen.size; })()")
        print("dark" if dark else "light")
        print(" exits:", number() == f'{stats["steps"]["count"]:,}')
        print(" painted:", all(painted(id) > 2 for id in ("timeline", "lane", "heat")))
        ground, ink = page.run("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
        light = lambda color: sum(int(part) for part in re.findall(r"\d+", color)[:3])
        print(" readable:", light(ground) < 150 < 600 < light(ink) if dark else light(ink) < 150 < 600 < light(ground))
        whole = span()
        page.run("document.getElementById('in').click()")
        zoomed = span()
        page.run("document.getElementById('all').click()")
        print(" buttons zoom:", zoomed != whole == span())
        page.run("document.getElementById('timeline').focus()")
        page.press("+", "Equal", "+")
        print(" keys zoom:", span() == zoomed)
        page.press("ArrowRight")
        print(" and move:", span() not in (zoomed, whole))
        page.press("0", "Digit0", "0")
        print(" and show all:", span() == whole)
        box = page.run("(() => { const b = document.getElementById('timeline').getBoundingClientRect(); return [b.left, b.top + 100, b.width]; })()")
        page.drag(box[0] + box[2] * 0.5, box[0] + box[2] * 0.75, box[1])
        print(" the mouse zooms:", span() not in (zoomed, whole))
        before = page.run("document.getElementById('timeline').toDataURL()")
        page.run("document.querySelector('.key').click()")
        print(" a reason can be left out:", page.run("document.querySelector('.key').getAttribute('aria-pressed')") == "false"
              and before != page.run("document.getElementById('timeline').toDataURL()"))
        print(" the divergence is there:", page.run("document.querySelector('#replay pre').textContent"))
        print(" tables:", page.run("[...document.querySelectorAll('table')].every(table => table.rows.length > 1)"))
        print(" prints:", page.pdf()[:5] == b"%PDF-")
        print(" problems:", page.problems, [url for url in page.requests if not url.startswith("file:")])
        page.screenshot("dark.png" if dark else "light.png")
PYTHON
echo "== a report without times, and trouble"
tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
tracectl report hello.vmtrace -o - | grep -c '</html>'
printf '0000000000007c00 T start\n0000000000007c10 T next\n' >map.txt
tracectl report hello.vmtrace --symbols map.txt -o - | grep -o '"symbol":"[a-z]*' | sort | uniq | tr '\n' ' '; echo
tracectl report hello.vmtrace --symbols hello.vmtrace; echo "status $?"
tracectl report missing.vmtrace; echo "status $?"
tracectl report hello.vmtrace -o nowhere/report.html; echo "status $?"
