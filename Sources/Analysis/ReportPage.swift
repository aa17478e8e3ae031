// The report's page: what stands before its data, and the script that draws them. No library, no network.

/// Pieces of the page, in their order: ``head``, the title, ``style``, ``body``, the data, ``script``.
enum ReportPage {
    static let head = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>"

    static let style = #"""
        </title>
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <style>
        :root {
          color-scheme: light dark;
          --ground: #ffffff; --ink: #16191d; --soft: #5b6570; --rule: #d9dee3; --panel: #f5f7f9; --accent: #0b62c4;
          --c0: #2f6fb7; --c1: #d9822b; --c2: #3a9a6c; --c3: #b8456b; --c4: #7a5cc2; --c5: #8a8f1f; --c6: #1d9aa8;
        --c7: #8b6a4f;
          --heat: 47 111 183; --bad: #b3261e;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --ground: #14171a; --ink: #e8ebee; --soft: #9aa5b1; --rule: #323940; --panel: #1c2126; --accent: #6cb2ff;
            --c0: #6ea8e6; --c1: #f0a35a; --c2: #63c795; --c3: #e5789c; --c4: #a98ef0; --c5: #c6cb55; --c6: #57cbd8;
        --c7: #c2a184;
            --heat: 110 168 230; --bad: #ff8a80;
          }
        }
        * { box-sizing: border-box; }
        body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
        main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px; }
        h1 { font-size: 22px; margin: 0 0 4px; }
        h2 { font-size: 16px; margin: 36px 0 8px; }
        p { margin: 0 0 8px; }
        .soft { color: var(--soft); }
        .numbers { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; padding: 0; list-style: none; }
        .numbers li { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: 8px 14px;
        }
        .numbers b { display: block; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
        .tools { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; margin: 8px 0; }
        button { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--rule);
        border-radius: 6px;
          padding: 3px 10px; cursor: pointer; }
        button:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
        .key[aria-pressed="false"] { opacity: .45; }
        .key i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
        canvas { display: block; width: 100%; border: 1px solid var(--rule); border-radius: 6px; background:
        var(--panel); }
        table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
        th, td { text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--rule); vertical-align:
        top; }
        th { font-weight: 600; color: var(--soft); }
        .n { text-align: right; }
        .scroll { overflow-x: auto; }
        code, pre { font: 13px/1.45 ui-monospace, monospace; }
        pre { background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: 10px; overflow-x:
        auto; }
        .bar { display: inline-block; height: 10px; background: var(--c0); border-radius: 2px; vertical-align:
        baseline; }
        .verdict { border-left: 4px solid var(--c2); padding: 4px 12px; background: var(--panel); }
        .verdict.bad { border-color: var(--bad); }
        .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 0 32px; }
        @media (max-width: 520px) { .pair { grid-template-columns: 1fr; } }
        @media print {
          :root { --ground: #fff; --ink: #000; --panel: #fff; }
          .tools button:not(.key) { display: none; }
          main { max-width: none; padding: 0; }
          h2 { break-after: avoid; } table, canvas, pre { break-inside: avoid; }
        }
        </style>
        </head>

        """#

    static let body = #"""
        <body>
        <main>
        <h1 id="name"></h1>
        <p class="soft" id="recorded"></p>
        <ul class="numbers" id="numbers"></ul>
        <section id="replay" hidden></section>
        <section>
        <h2 id="timeline-title">Exits by reason, over the run</h2>
        <p class="soft">Each column is a part of the run. Drag over columns to look closer; with the keyboard: + and
        - zoom, arrows move, 0 shows all.</p>
        <div class="tools" id="keys"></div>
        <canvas id="timeline" height="240" tabindex="0" role="img" aria-labelledby="timeline-title range"></canvas>
        <canvas id="lane" height="44" role="img" aria-label="Events injected, over the same part of the run"></canvas>
        <div class="tools">
        <button id="in">Zoom in</button><button id="out">Zoom out</button><button id="left">Earlier</button>
        <button id="right">Later</button><button id="all">All</button>
        <span class="soft" id="range" aria-live="polite"></span>
        </div>
        </section>
        <section>
        <h2>Ports, MSRs and pages, over the run</h2>
        <div class="scroll">
        <canvas id="heat" height="10" role="img" aria-label="Accesses to each place over the same part of the run;
        the table below has the counts"></canvas></div>
        <div class="scroll"><table id="places"></table></div>
        </section>
        <section>
        <h2>Instructions that exit most</h2>
        <div class="scroll"><table id="instructions"></table></div>
        </section>
        <div class="pair">
        <section><h2>What the comm page saves</h2><table id="comm-page"></table></section>
        <section><h2>Events that entered the guest</h2><table id="events"></table></section>
        </div>
        <section id="latencies" hidden><h2>Time</h2><div class="pair" id="latency-tables"></div></section>
        <section>
        <h2>What the VMM does after an exit</h2>
        <div class="scroll"><table id="pairs"></table></div>
        </section>
        </main>

        """#

    static let script = #"""

        "use strict";
        const data = JSON.parse(document.getElementById("data").textContent);
        const profile = data.profile, statistics = data.statistics;
        const get = id => document.getElementById(id);
        const grouped = n => Number(n).toLocaleString("en-US");
        const share = (part, whole) => whole ? (100 * part / whole).toFixed(1) + " %" : "";
        const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        function element(tag, text, attributes) {
          const made = document.createElement(tag);
          if (text !== undefined) made.textContent = text;
          for (const key in attributes || {}) made.setAttribute(key, attributes[key]);
          return made;
        }
        function table(id, headings, rows) {
          const target = get(id), head = target.createTHead().insertRow(), body = target.createTBody();
          for (const [name, numeric] of headings) head.append(element("th", name, { scope: "col",
            class: numeric ? "n" : "" }));
          for (const row of rows) {
            const line = body.insertRow();
            row.forEach((cell, index) => {
              const place = line.insertCell();
              if (headings[index][1]) place.className = "n";
              if (cell instanceof Node) place.append(cell); else place.textContent = cell ?? "";
            });
          }
          if (!rows.length) body.insertRow().append(element("td", "none", { class: "soft",
            colspan: headings.length }));
        }
        const code = text => element("code", text || "");

        get("name").textContent = data.name;
        get("recorded").textContent = data.recorded.join(" · ");
        for (const [value, name] of [
          [statistics.steps.count, "exits"], [statistics.steps.instructions, "instructions"],
          [statistics.events.reduce((sum, event) => sum + event.count, 0), "events injected"],
          [statistics.calls.systemCalls, "system calls"], [statistics.memoryWrites.count, "VMM writes to memory"],
        ]) {
          const item = element("li");
          item.append(element("b", grouped(value)), element("span", name, { class: "soft" }));
          get("numbers").append(item);
        }
        if (profile.clock > 0) {
          const item = element("li");
          item.append(element("b", share(profile.idleTicks, profile.clock)), element("span", "of the clock waiting", {
            class: "soft" }));
          get("numbers").append(item);
        }

        if (data.replay) {
          const section = get("replay"), difference = data.replay.divergence;
          section.hidden = false;
          section.append(element("h2", "Replay"), element("p", data.replay.summary, {
            class: "verdict" + (data.replay.isClean ? "" : " bad") }));
          if (difference) {
            const wrong = difference.wrongInstruction, at = wrong ? wrong.place : difference.instructionAtExit;
            section.append(element("p", "First difference at step " + grouped(difference.step) + (at ? ":" : "")));
            if (at) section.append(element("pre", "rip " + at.rip + "  " + at.text));
            const fields = element("table", undefined, { id: "divergence" });
            section.append(fields);
            const all = (wrong ? wrong.fields : difference.fields).filter(field => field.expected !== field.actual);
            table("divergence", [["field"], ["recorded"], ["replayed"]], all.map(field => [field.name,
              code(field.expected), code(field.actual)]));
          }
        }

        // The timeline. Bins [from, to) are shown.
        const bins = profile.binCount;
        let from = 0, to = bins;
        const order = profile.timeline.map((row, index) => index).sort((a,
          b) => profile.timeline[b].count - profile.timeline[a].count);
        const colorOf = index => color("--c" + Math.min(order.indexOf(index), 7));
        const shown = new Set(order);
        for (const index of order) {
          const row = profile.timeline[index], key = element("button", undefined, { class: "key",
            "aria-pressed": "true" });
          const dot = element("i");
          dot.style.background = "var(--c" + Math.min(order.indexOf(index), 7) + ")";
          key.append(dot, row.name + " " + grouped(row.count));
          key.onclick = () => {
            if (shown.has(index)) shown.delete(index); else shown.add(index);
            key.setAttribute("aria-pressed", shown.has(index));
            draw();
          };
          get("keys").append(key);
        }
        function prepare(id, height) {
          const canvas = get(id), scale = window.devicePixelRatio || 1, width = canvas.clientWidth || 1100;
          canvas.style.height = height + "px";
          canvas.width = width * scale;
          canvas.height = height * scale;
          const pen = canvas.getContext("2d");
          pen.scale(scale, scale);
          pen.font = "12px system-ui, sans-serif";
          return [pen, width, height];
        }
        const margin = 64;
        function draw() {
          const [pen, width, height] = prepare("timeline", 240), span = Math.max(to - from, 1), room = width - margin;
          let highest = 1;
          for (let bin = from; bin < to; bin++) {
            let sum = 0;
            for (const index of shown) sum += profile.timeline[index].bins[bin];
            highest = Math.max(highest, sum);
          }
          pen.fillStyle = color("--soft");
          pen.textAlign = "right";
          pen.fillText(grouped(highest), margin - 8, 16);
          pen.fillText("0", margin - 8, height - 6);
          for (let bin = from; bin < to; bin++) {
            let base = height - 4;
            const x = margin + (bin - from) * room / span, w = Math.max(room / span - (span < 200 ? 1 : 0), 0.7);
            for (const index of order) {
              if (!shown.has(index)) continue;
              const h = profile.timeline[index].bins[bin] * (height - 12) / highest;
              pen.fillStyle = colorOf(index);
              pen.fillRect(x, base - h, w, h);
              base -= h;
            }
          }
          const first = from * profile.stepsPerBin, last = Math.min(to * profile.stepsPerBin,
            statistics.steps.count) - 1;
          get("range").textContent = bins ? "steps " + grouped(first) + " to " + grouped(last) + ", from clock "
            + grouped(profile.binClocks[from] || 0) : "no steps";
          drawLane();
          drawHeat();
        }
        function drawLane() {
          const [pen, width, height] = prepare("lane", 44), span = Math.max(to - from, 1), room = width - margin;
          pen.fillStyle = color("--soft");
          pen.textAlign = "right";
          pen.fillText("injected", margin - 8, 26);
          profile.injections.forEach((row, index) => {
            pen.fillStyle = color("--c" + index % 8);
            for (let bin = from; bin < to; bin++) {
              if (row.bins[bin]) pen.fillRect(margin + (bin - from) * room / span, 6 + index % 4 * 8,
                Math.max(room / span, 2), 7);
            }
          });
        }
        function drawHeat() {
          const rows = profile.places, rowHeight = 17, group = profile.binsPerPlaceBin;
          const [pen, width] = prepare("heat", Math.max(rows.length * rowHeight + 6, 10));
          const left = Math.min(270, width * 0.35), room = width - left, first = Math.floor(from / group),
            last = Math.max(Math.ceil(to / group), first + 1);
          rows.forEach((row, index) => {
            const y = 3 + index * rowHeight;
            pen.fillStyle = color("--ink");
            pen.textAlign = "left";
            pen.fillText((row.name + (row.device ? "  " + row.device : "")).slice(0, 42), 6, y + 13, left - 12);
            const highest = Math.max(1, ...row.bins);
            for (let bin = first; bin < last; bin++) {
              if (!row.bins[bin]) continue;
              const depth = 0.15 + 0.85 * Math.log1p(row.bins[bin]) / Math.log1p(highest);
              pen.fillStyle = "rgb(" + color("--heat") + " / " + depth + ")";
              pen.fillRect(left + (bin - first) * room / (last - first), y, Math.max(room / (last - first), 1),
                rowHeight - 2);
            }
          });
        }
        function show(a, b) {
          const span = Math.min(Math.max(Math.round(b - a), 1), bins);
          from = Math.max(0, Math.min(Math.round(a), bins - span));
          to = from + span;
          draw();
        }
        const actions = {
          in: () => show(from + (to - from) / 4, to - (to - from) / 4), out: () => show(from - (to - from) / 2,
            to + (to - from) / 2),
          left: () => show(from - (to - from) / 4, to - (to - from) / 4), right: () => show(from + (to - from) / 4,
            to + (to - from) / 4),
          all: () => show(0, bins),
        };
        for (const id in actions) get(id).onclick = actions[id];
        get("timeline").onkeydown = event => {
          const action = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right",
            0: "all" }[event.key];
          if (!action) return;
          actions[action]();
          event.preventDefault();
        };
        let pressed = null;
        const binAt = event => {
          const box = get("timeline").getBoundingClientRect();
          return from + (event.clientX - box.left - margin) * (to - from) / (box.width - margin);
        };
        get("timeline").onpointerdown = event => { pressed = binAt(event); };
        get("timeline").onpointerup = event => {
          const end = binAt(event);
          const isDrag = pressed !== null
            && Math.abs(end - pressed) * get("timeline").clientWidth > 6 * (to - from);
          if (isDrag) show(Math.floor(Math.min(pressed, end)), Math.ceil(Math.max(pressed, end)));
          pressed = null;
        };
        window.addEventListener("resize", draw);
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
        window.addEventListener("beforeprint", draw);

        table("places", [["place"], ["device"], ["exits", true], ["share", true]],
          profile.places.map(row => [code(row.name), row.device, grouped(row.count), share(row.count,
            statistics.steps.count)]));
        const most = Math.max(1, ...profile.instructions.map(row => row.count));
        table("instructions", [["rip"], ["instruction"], ["exit"], ["exits", true], ["share", true],
          ["instructions before", true], ["", false]],
          profile.instructions.map(row => {
            const bar = element("span", undefined, { class: "bar" });
            bar.style.width = Math.max(1, 90 * row.count / most) + "px";
            const address = row.base === "0x0" ? row.rip : row.base + " + " + row.rip;
            return [code(address + (row.symbol ? "  " + row.symbol : "")), code(row.text || "-"), row.reason,
              grouped(row.count), share(row.count, statistics.steps.count), grouped(row.instructions), bar];
          }));
        const calls = statistics.calls.underInterface;
        table("comm-page", [["interface"], ["system calls", true], ["saved", true]], [
          ["no comm page", calls.noCommPage], ["a comm page for state", calls.commPageForState],
            ["a comm page for state and events", calls.commPageForStateAndEvents],
        ].map(([name, count]) => [name, grouped(count), share(calls.noCommPage - count, calls.noCommPage)]));
        table("events", [["event"], ["count", true]],
          statistics.events.map(event => [event.kind + " 0x" + event.vector.toString(16), grouped(event.count)]));
        table("pairs", [["after"], ["VMM reads"], ["VMM writes"], ["times", true]],
          profile.pairs.map(pair => [pair.reason, pair.read.join(", ") || "nothing",
            pair.written.join(", ") || "nothing", grouped(pair.count)]));
        for (const [name, latencies, unit] of [["In the guest", profile.guestTime, "ns"], ["In the VMM",
          profile.vmmTime, "ns"], ["From injection to entry", profile.injectionDelay, "ticks"]]) {
          if (!latencies) continue;
          get("latencies").hidden = false;
          const part = element("div"), id = "latency-" + name.replace(/ /g, "-"), list = element("table", undefined, {
            id });
          part.append(element("h3", name + ", " + unit), list);
          get("latency-tables").append(part);
          table(id, [["", false], [unit, true]], [["minimum", latencies.minimum],
            ...latencies.percentiles.map(p => [p.percentile + " %", p.value]), ["maximum",
            latencies.maximum]].map(([label, value]) => [label, grouped(value)]));
          const highest = Math.max(1, ...latencies.octaves), chart = element("div", undefined, { role: "img",
            "aria-label": "Distribution by powers of two" });
          latencies.octaves.forEach((count, octave) => {
            if (!count) return;
            const line = element("div"), bar = element("span", undefined, { class: "bar" });
            bar.style.width = Math.max(1, 200 * count / highest) + "px";
            line.append(bar, " " + grouped(2 ** octave) + " and more: " + grouped(count));
            chart.append(line);
          });
          part.append(chart);
        }
        draw();
        document.documentElement.dataset.ready = "yes";

        """#
}
