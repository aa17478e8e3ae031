# needs: file .build-python/lib/python3.11/site-packages/perfetto/__init__.py
# An export is a trace by Perfetto's own definition, with nothing in it that this does not know: runs and what the VMM
# did between them nest and follow each other on the tracks of their VCPUs, and flows lead from each to the next.
tracectl record --guest "$GUESTS/longmode.bin" -o one.vmtrace >/dev/null
tracectl record --guest "$GUESTS/twocpus.bin" --cpus 2 --time -o two.vmtrace >/dev/null
for name in one two; do
    tracectl dump $name.vmtrace --json >$name.jsonl
    tracectl export $name.vmtrace --format perfetto -o $name.pftrace
    "$ROOT/.build-python/bin/python" - $name <<'PYTHON'
import json, sys
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto
from google.protobuf import unknown_fields
trace = perfetto.Trace()
trace.ParseFromString(open(sys.argv[1] + ".pftrace", "rb").read())
steps = [json.loads(line) for line in open(sys.argv[1] + ".jsonl")]

def known(message):
    if len(unknown_fields.UnknownFieldSet(message)): return False
    for field, value in message.ListFields():
        if field.message_type is None: continue
        for part in (value if hasattr(value, "__len__") and not hasattr(value, "ListFields") else [value]):
            if not known(part): return False
    return True
print("nothing unknown:", known(trace))
names, tracks, depth, last, slices, instants = {}, {}, {}, {}, {}, []
begun, ended = set(), set()
Event = perfetto.TrackEvent
for index, packet in enumerate(trace.packet):
    assert packet.sequence_flags & (1 if index == 0 else 2)
    for entry in packet.interned_data.event_names: names[entry.iid] = entry.name
    if packet.HasField("track_descriptor"):
        tracks[packet.track_descriptor.uuid] = packet.track_descriptor.name
        continue
    event, track = packet.track_event, packet.track_event.track_uuid
    assert track in tracks
    begun.update(event.flow_ids)
    ended.update(event.terminating_flow_ids)
    if event.type == Event.TYPE_INSTANT:
        instants.append(names[event.name_iid])
        continue
    if event.type == Event.TYPE_SLICE_BEGIN:
        assert depth.get(track, 0) == 0 and packet.timestamp >= last.get(track, 0)
        depth[track] = 1
        notes = {note.name: note for note in event.debug_annotations}
        slices.setdefault(tracks[track], []).append((names[event.name_iid], notes))
    else:
        assert depth[track] == 1 and packet.timestamp >= last[track]
        depth[track] = 0
    last[track] = packet.timestamp
print("all slices end:", not any(depth.values()), sorted(tracks.values()))
for vcpu in sorted({step["vcpu"] for step in steps}):
    own = [step for step in steps if step["vcpu"] == vcpu]
    runs = slices[f"VCPU {vcpu}, guest"]
    print(f"VCPU {vcpu}: runs are the steps:", [name for name, _ in runs] == [step["exit"]["reason"] for step in own],
          [notes["rip"].pointer_value for _, notes in runs] == [int(step["registers"]["rip"], 16) for step in own],
          [notes["step"].uint_value for _, notes in runs] == [step["step"] for step in own])
    print(f"VCPU {vcpu}: a pause after each:", len(slices[f"VCPU {vcpu}, VMM"]) == len(own))
print("events:", len(instants) == sum("event" in step for step in steps))
print("each exit's flow is taken up:", len(begun - ended) <= len(steps) and len([flow for flow in begun if flow & 1]) == len(steps)
      and all(flow in ended for flow in begun if flow & 1))
PYTHON
done
