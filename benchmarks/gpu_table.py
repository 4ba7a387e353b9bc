"""The table of `gpu.py`: every row, what failed, and the targets."""

HIDDEN = ("kinds", "kernels", "seconds", "kernel", "dtype", "way", "members")
TRAININGS, EPOCHS = 27, 30  # of each kernel size, of each training
HOPED = " (target ≥ 1.0, hoped for 1.3)"
CARD_MIB = 8188  # the memory of the laptop's RTX 4070
LEGEND = """
ms: a call, or a step of all members; host_ms: until it returns, while the device goes on; device_ms
and device_volumes_s: without the host's part; volumes_s, images_s: in a second; member_epoch_s:
seconds of an epoch of one member; mib: memory of the compiled program, arguments included; widest:
greatest window of cuDNN's calls; left: convolutions that are none of its calls; jit: JAX in float32
"""


def show(content):
    platform, quick = content["settings"]["platform"], content["settings"]["quick"]
    rehearsal = ", a rehearsal: these times tell nothing" if quick else ""
    print(f"\n{content['machine']}; on a {platform.upper()}{rehearsal}")
    for name, stage in content["stages"].items():
        ended = "" if stage["status"] == "done" else f": {stage.get('error') or stage['status']}"
        print(f"\n== {name}{ended}")
        show_rows(stage["rows"])
    print(f"{LEGEND}\n== summary and targets")
    for line in targets(content["stages"]):
        print(line)


def show_rows(rows):
    measured = {name: row for name, row in rows.items() if "error" not in row}
    columns = list(dict.fromkeys(key for row in measured.values() for key in row))
    columns = [key for key in columns if key not in HIDDEN]
    if any(len(str(value)) > 40 for row in measured.values() for value in row.values()):
        for name, row in measured.items():
            print(f"{name}: " + ", ".join(f"{key} {row[key]}" for key in row if key != "seconds"))
    elif measured:
        width = max(map(len, rows))
        cells = [[str(row.get(key, "")) for key in columns] for row in measured.values()]
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for name, line in zip(["", *measured], [columns, *cells], strict=True):
            print(f"{name:{width}}", *(f"{c:>{w}}" for c, w in zip(line, widths, strict=True)))
    for name, row in rows.items():
        if "error" in row:
            print(f"{name}: {row['error']}")


def targets(stages):
    peers = dict.fromkeys(("graphs", "channels-last", "eager"), "")
    yield from over_torch(stages, "train", "torch", {"compile": HOPED, **peers})
    ways = ("compile half", "channels-last half", "channels-last float32")
    yield from over_torch(stages, "inference", "torch-inference", dict.fromkeys(ways, ""))
    yield from over_numpy(stages)
    yield from trainings(stages)


def over_torch(stages, ours, theirs, ways):
    """Compare times with PyTorch's for the same work."""
    peers = stages.get(theirs, {}).get("rows", {})
    for name, row in stages.get(ours, {}).get("rows", {}).items():
        for way, wanted in ways.items():
            peer = peers.get(f"{name.removesuffix(' jit')} {way}", {})
            if "ms" in peer and "ms" in row:
                yield f"{name}: {peer['ms'] / row['ms']:.2f} × as fast as PyTorch {way}{wanted}"


def over_numpy(stages):
    rows = stages.get("augmentation", {}).get("rows", {})
    for name, row in rows.items():
        host = rows.get(f"{name.split()[0]} host", {})
        for peer in ("numpy", "torchio"):
            theirs = host.get(f"{peer}_volumes_s")
            if theirs and "jax_volumes_s" in row:
                ours, alone = (row[f"{key}_volumes_s"] / theirs for key in ("jax", "device"))
                wanted = " (target ≥ 100)" if peer == "numpy" else ""
                what = f"{ours:.1f} × as fast as {peer}{wanted}, the device alone {alone:.1f} ×"
                yield f"augmentation {name}: {what}"


def trainings(stages):
    """Yield the fastest ways, and the minutes of the study's 108 trainings."""
    rows = [row for row in stages.get("sweep", {}).get("rows", {}).values() if "way" in row]
    for of in dict.fromkeys((row["kernel"], row["dtype"]) for row in rows):
        yield from fastest([row for row in rows if (row["kernel"], row["dtype"]) == of])
    whole = stages.get("sweep-run", {}).get("rows", {})
    more = beside_steps(rows, whole)
    for of in dict.fromkeys((row["dtype"], row["way"], row["members"]) for row in rows):
        own = [row for row in rows if (row["dtype"], row["way"], row["members"]) == of]
        what = f"{of[0]}, {of[1]} ×{of[2]}"
        yield from sum_up(own, f"{what}, steps alone")
        if more is not None:
            yield from sum_up(own, f"{what}, and what sweep-run has beside them", more)
    yield from sum_up(whole.values(), "segjax.sweep")


def beside_steps(rows, whole):
    """Return the seconds of an epoch that are not its steps: batches, validation and files."""
    for row in rows:
        epoch = whole.get(f"k{row['kernel']}", {})
        if row["way"] == "apart" and row["dtype"] == epoch.get("dtype"):
            return epoch["member_epoch_s"] - row["member_epoch_s"]
    return None


def fastest(rows):
    """Say which way is the fastest, and which within the memory of the study's card."""
    for limit in (None, CARD_MIB):
        fitting = [row for row in rows if not limit or (row["mib"] or 0) <= limit]
        if len(rows) > 1 and fitting:
            best = min(fitting, key=lambda row: row["ms"] / row["members"])
            within = f"fastest within {limit} MiB" if limit else "fastest"
            each = best["ms"] / best["members"]
            what = f"kernel {best['kernel']}, {best['dtype']}, {within}"
            cost = f"{each:.1f} ms a member and step, {best['mib']} MiB"
            yield f"{what}: {best['way']} ×{best['members']}, {cost}"


def sum_up(rows, what, more=0.0):
    epochs = [row["member_epoch_s"] + more for row in rows if "member_epoch_s" in row]
    if len(epochs) == 4:
        minutes = TRAININGS * EPOCHS * sum(epochs) / 60
        yield f"108 trainings of {EPOCHS} epochs ({what}): {minutes:.1f} minutes (target ≤ 30)"
    elif epochs:
        listed = ", ".join(f"{epoch:.2f}" for epoch in epochs)
        yield f"seconds of an epoch of a member ({what}): {listed}"
