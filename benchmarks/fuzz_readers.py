"""Thousands of damaged NIfTI and DICOM files: each a readable error or a valid volume, or a bug.

    python benchmarks/fuzz_readers.py [--count 10000] [--json results.json] [--seed 0]

Small files (crops of the public data where SEGJAX_DATA is set, and made ones) are damaged at
random: bits flipped, bytes overwritten with extreme numbers, files cut, lengthened and spliced,
sizes, types, lengths, VRs and transfer syntaxes lied about, compressed streams broken. A process
of its own reads them, whose address space is limited and which is killed where a file takes too
long. The same seed gives the same files.
"""

import argparse
import gzip
import json
import os
import platform
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

MOST_MEMORY = 2**30  # bytes of address space beyond what the libraries take
LONGEST = 20  # seconds a file
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000,
            0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip
NIFTI_FIELDS = {  # offset and type of what NIfTI-1 and NIfTI-2 headers say
    ".nii": [(0, "i"), *[(40 + 2 * i, "h") for i in range(8)], (70, "h"), (72, "h"),
             *[(76 + 4 * i, "f") for i in range(8)], (108, "f"), (112, "f"), (116, "f"),
             (123, "b"), (252, "h"), (254, "h"), *[(256 + 4 * i, "f") for i in range(18)],
             (344, "i"), (348, "i")],
    ".nii2": [(0, "i"), (4, "i"), (12, "h"), (14, "h"), *[(16 + 8 * i, "q") for i in range(8)],
              *[(104 + 8 * i, "d") for i in range(8)], (168, "q"), (176, "d"), (184, "d"),
              *[(344 + 4 * i, "i") for i in range(2)], *[(352 + 8 * i, "d") for i in range(18)]],
}  # fmt: skip
DICOM_TAGS = (
    (0x0002, 0x0000), (0x0002, 0x0010), (0x0008, 0x0008), (0x0018, 0x0050), (0x0020, 0x000E),
    (0x0020, 0x0032), (0x0020, 0x0037), (0x0028, 0x0002), (0x0028, 0x0008), (0x0028, 0x0010),
    (0x0028, 0x0011), (0x0028, 0x0030), (0x0028, 0x0100), (0x0028, 0x0101), (0x0028, 0x0102),
    (0x0028, 0x0103), (0x0028, 0x1052), (0x0028, 0x1053), (0x5200, 0x9229), (0x5200, 0x9230),
    (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD),
)  # fmt: skip
VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV zz".split()  # noqa: E501
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99",
            "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",
            "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80",
            "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
            "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.5", "1.2.840.113619.5.2", "")  # fmt: skip


# -- undamaged files ----------------------------------------------------------------------------


def write_seeds(folder):
    """Write the undamaged files and return them in order."""
    folder.mkdir(exist_ok=True)
    image = np.random.default_rng(0).normal(500, 100, (14, 12, 10)).astype(np.int16)
    write_nifti_seeds(folder, image)
    write_dicom_seeds(folder, image[:, :, :3].transpose(2, 1, 0).repeat(2, 1).repeat(2, 2))
    if data := os.environ.get("SEGJAX_DATA"):
        write_real_seeds(folder, Path(data))
    return sorted(folder.iterdir())


def write_nifti_seeds(folder, image):
    import nibabel

    affine = np.diag([-1.0, 1.0, 3.0, 1.0])
    for name in ("int16.nii", "int16.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(image, affine), folder / name)
    nibabel.save(nibabel.Nifti2Image(image.astype(np.float32), affine), folder / "float32.nii2.nii")
    scaled = nibabel.Nifti1Image(np.stack([image, image], -1), affine)
    scaled.header.set_slope_inter(0.5, -10)
    nibabel.save(scaled, folder / "channels.nii.gz")


def write_dicom_seeds(folder, frames):
    import pydicom
    from pydicom.uid import (
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        RLELossless,
    )

    for name, syntax in (
        ("explicit", ExplicitVRLittleEndian),
        ("implicit", ImplicitVRLittleEndian),
        ("big", ExplicitVRBigEndian),
    ):
        save(make_slice(frames[0], syntax), folder / f"{name}.dcm")
    enhanced = make_enhanced(frames)
    save(enhanced, folder / "enhanced.dcm")
    enhanced.compress(RLELossless, encoding_plugin="pydicom")
    save(enhanced, folder / "enhanced_rle.dcm")
    for name, syntax, stream in streams(frames[0]):
        one = make_slice(frames[0], ExplicitVRLittleEndian)
        one.file_meta.TransferSyntaxUID = syntax
        one.PixelData = pydicom.encaps.encapsulate([stream])
        save(one, folder / f"{name}.dcm")


def write_real_seeds(folder, data):
    """Write crops of real files, with their real headers."""
    import nibabel
    import pydicom

    flair = nibabel.load(next((data / "ms_lesions").rglob("*flair*.nii*")))
    nibabel.save(flair.slicer[80:104, 100:120, 80:96], folder / "real_flair.nii.gz")
    nibabel.save(flair.slicer[80:100, 100:116, 80:90], folder / "real_flair.nii")
    one = pydicom.dcmread(sorted((data / "dicom" / "flair_oblique").iterdir())[9])
    one.PixelData = np.ascontiguousarray(one.pixel_array[240:280, 240:272]).tobytes()
    one.Rows, one.Columns = 40, 32
    save(one, folder / "real_slice.dcm")


def make_slice(pixels, syntax):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRBigEndian, MRImageStorage

    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = MRImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    one.ImageType, one.Modality = ["ORIGINAL", "PRIMARY", "M"], "MR"
    one.SeriesInstanceUID, one.SeriesNumber, one.EchoTime = "1.2.3", 1, 90
    one.ImagePositionPatient, one.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.SliceThickness = [0.5, 0.5], 3
    one.RescaleSlope, one.RescaleIntercept = 2, -10
    one.Rows, one.Columns = pixels.shape[-2:]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.PixelData = pixels.astype(">i2" if syntax == ExplicitVRBigEndian else "<i2").tobytes()
    one["PixelData"].VR = "OW"
    return one


def make_enhanced(frames):
    from pydicom.dataset import Dataset
    from pydicom.uid import ExplicitVRLittleEndian

    one = make_slice(frames, ExplicitVRLittleEndian)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.5], 3
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    one.SharedFunctionalGroupsSequence = [shared]
    one.NumberOfFrames, groups = len(frames), []
    for k in range(len(frames)):
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 3 * k]
        group.PlanePositionSequence = [place]
        groups.append(group)
    one.PerFrameFunctionalGroupsSequence = groups
    return one


def streams(pixels):
    """Yield name, transfer syntax and compressed stream of a slice, for what can be encoded."""
    import pydicom
    import SimpleITK as sitk  # noqa: N813
    from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

    for syntax, plugin in ((RLELossless, "pydicom"), (JPEGLSLossless, "pyjpegls")):
        one = make_slice(pixels, ExplicitVRLittleEndian)
        one.compress(syntax, encoding_plugin=plugin)
        yield (
            plugin,
            syntax,
            next(pydicom.encaps.generate_frames(one.PixelData, number_of_frames=1)),
        )
    for compressor in ("JPEG", "JPEG2000"):
        with tempfile.TemporaryDirectory() as folder:
            writer = sitk.ImageFileWriter()
            writer.SetImageIO("GDCMImageIO")
            writer.UseCompressionOn()
            writer.SetCompressor(compressor)
            writer.SetFileName(f"{folder}/a.dcm")
            writer.Execute(sitk.GetImageFromArray(pixels[None]))
            one = pydicom.dcmread(f"{folder}/a.dcm")
        stream = next(pydicom.encaps.generate_frames(one.PixelData, number_of_frames=1))
        yield compressor.lower(), one.file_meta.TransferSyntaxUID, stream


def save(one, path):
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

    syntax = one.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(
        path,
        one,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )


# -- damage -------------------------------------------------------------------------------------


def damage(content, name, rng):
    """Return a damaged copy of a file, by one to three kinds of damage."""
    if name.endswith(".gz") and rng.random() < 0.6:
        inner = damage(gzip.decompress(content), name.removesuffix(".gz"), rng)
        return gzip.compress(inner, 1, mtime=0)
    kinds = [flip, flip_header, cut, lengthen, overwrite, splice]
    kinds += [lie_nifti] * 6 if name.endswith(".nii") else []
    if name.endswith(".dcm"):
        kinds += [lie_dicom] * 4 + [lie_vr, lie_syntax, lie_stream]
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kinds[rng.integers(len(kinds))](changed, name, rng)
    return bytes(changed)


def flip(content, _name, rng):
    for at in rng.integers(0, max(len(content), 1), rng.integers(1, 17)):
        if at < len(content):
            content[at] ^= 1 << rng.integers(8)


def flip_header(content, name, rng):
    head = content[: header_size(content, name)]
    flip(head, name, rng)
    content[: len(head)] = head


def cut(content, _name, rng):
    del content[rng.integers(0, len(content) + 1) :]


def lengthen(content, _name, rng):
    content += rng.bytes(rng.integers(1, 600))


def overwrite(content, name, rng):
    at = rng.integers(0, max(header_size(content, name), 1))
    number = EXTREMES[rng.integers(len(EXTREMES))].to_bytes(4, "little")
    content[at : at + 4] = number[: rng.choice([2, 4])]


def splice(content, _name, rng):
    start, end = sorted(rng.integers(0, len(content) + 1, 2))
    at = rng.integers(0, len(content) + 1)
    chunk = content[start : min(end, start + 400)]
    if rng.random() < 0.5:
        del content[start : start + len(chunk)]
    content[at:at] = chunk


def lie_nifti(content, name, rng):
    fields = NIFTI_FIELDS[".nii2" if "nii2" in name else ".nii"]
    at, kind = fields[rng.integers(len(fields))]
    if len(content) < at + struct.calcsize(kind):
        return
    if kind in "fd":
        numbers = (0.0, -1.0, 1e-30, 1e30, np.inf, -np.inf, np.nan, rng.normal() * 100)
        struct.pack_into(f"<{kind}", content, at, numbers[rng.integers(len(numbers))])
        return
    bits = 8 * struct.calcsize(kind)
    numbers = (*EXTREMES, rng.integers(0, 2**16), 2**62, 3, 4, 8, 16, 64, 512, 1024)
    number = int(numbers[rng.integers(len(numbers))]) % 2**bits
    struct.pack_into(f"<{kind.upper()}", content, at, number)


def lie_dicom(content, name, rng):
    """Overwrite part of an element that matters, or write another number into its text."""
    at = find_element(content, name, rng)
    if at is None:
        return
    if rng.random() < 0.3:
        text = (b"-1", b"1e9", b"nan", b"0", b"9" * 12, b"a\\b", b"1\\2\\3\\4", b"")
        new = text[rng.integers(len(text))]
        content[at + 8 : at + 8 + len(new)] = new
        return
    number = EXTREMES[rng.integers(len(EXTREMES))] if rng.random() < 0.6 else rng.integers(2**12)
    start, size = at + rng.choice([4, 6, 8, 8, 10, 12]), rng.choice([2, 4])
    content[start : start + size] = int(number).to_bytes(4, "little")[:size]


def lie_vr(content, name, rng):
    at = find_element(content, name, rng)
    if at is not None:
        content[at + 4 : at + 6] = VRS[rng.integers(len(VRS))]


def lie_syntax(content, _name, rng):
    at = content.find(struct.pack("<HH", 0x0002, 0x0010))
    if at >= 0 and len(content) > at + 8:
        (length,) = struct.unpack_from("<H", content, at + 6)
        syntax = SYNTAXES[rng.integers(len(SYNTAXES))].encode()
        syntax += b"\0" * (len(syntax) % 2)
        content[at + 6 : at + 8 + length] = struct.pack("<H", len(syntax)) + syntax


def lie_stream(content, name, rng):
    """Overwrite a byte of what a compressed stream says of itself."""
    starts = (content.find(mark) for mark in (b"\xff\xd8\xff", b"\xff\x4f\xff\x51"))
    start = max(starts)
    at = start + rng.integers(2, 140)
    if start >= 0 and at < len(content):
        content[at] = rng.integers(256)


def find_element(content, name, rng):
    order = ">HH" if name.startswith("big") and rng.random() < 0.9 else "<HH"
    tags = list(DICOM_TAGS)
    rng.shuffle(tags)
    places = (content.find(struct.pack(order, *tag)) for tag in tags)
    return next((at for at in places if at >= 0), None)


def header_size(content, name):
    if name.endswith(".dcm"):
        pixels = content.rfind(struct.pack("<HH", 0x7FE0, 0x0010))
        return len(content) if pixels < 0 else min(pixels + 120, len(content))
    return min(560, len(content))


# -- reading ------------------------------------------------------------------------------------


def work(folder, seed, first, last):
    """Read damaged files in this process, limited in memory and time; say what happens to each."""
    from segjax.data.io.formats import read_volume

    seeds = sorted((folder / "seeds").iterdir())
    warnings.simplefilter("ignore")
    for path in seeds:  # imports, and proof that they are sound
        read_volume(shutil.copy(path, folder))
        (folder / path.name).unlink()
    out = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)  # codecs print what they think of their input
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, last):
        name, content = damaged(seeds, seed, number)
        path = folder / f"{number}{''.join(Path(name).suffixes[-2:])}"
        path.write_bytes(content)
        print(json.dumps({"number": number, "name": name}), file=out, flush=True)
        signal.alarm(LONGEST)
        start = time.perf_counter()
        result, message = outcome(read_volume, path)
        seconds = time.perf_counter() - start
        signal.alarm(0)
        path.unlink()
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        row = {"number": number, "outcome": result, "message": message, "seconds": seconds}
        print(json.dumps(row | {"peak": peak}), file=out, flush=True)


def damaged(seeds, seed, number):
    """Return the name of the seed and the content of a damaged file."""
    rng = np.random.default_rng([seed, number])
    path = seeds[number % len(seeds)]
    return path.name, damage(path.read_bytes(), path.name, rng)


def outcome(read, path):
    """Read a file: say whether it is valid, refused, or neither, and in which words."""
    from segjax.errors import InputError

    try:
        volume = read(path)
    except InputError as error:
        named = str(path) in str(error) or str(path.parent) in str(error)
        clear = named and "\n" not in str(error) and len(str(error)) < 600
        return ("refused" if clear else "unclear"), str(error).replace(str(path.parent) + "/", "")
    except BaseException as error:
        return "escaped", f"{type(error).__name__}: {error}"
    sound = volume.data.size > 0 and np.isfinite(volume.affine).all()
    float(np.asarray(volume.data, np.float64).ravel()[:: max(1, volume.data.size // 99)].sum())
    return ("valid" if sound else "unsound"), str(volume.data.shape)


def run(count, seed=0):
    """Damage and read so many files; return what happened."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder, rows, first = Path(name), [], 0
        seeds = write_seeds(folder / "seeds")
        while first < count:
            rows += read_in_child(folder, seed, first, count)
            first = rows[-1]["number"] + 1
    return summary(rows, seeds)


def read_in_child(folder, seed, first, last):
    """Return a row for each file until the end, or until the process dies of one."""
    command = [sys.executable, __file__, "--worker", str(folder), str(first), str(last)]
    child = subprocess.run([*command, "--seed", str(seed)], stdout=subprocess.PIPE, check=False)
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    started = {line["number"]: line["name"] for line in lines if "name" in line}
    rows = [line | {"name": started[line["number"]]} for line in lines if "outcome" in line]
    if not started:
        raise RuntimeError(f"the reading process died at once with code {child.returncode}")
    died = sorted(set(started) - {row["number"] for row in rows})
    for number in died:
        hung = child.returncode == -signal.SIGALRM
        rows.append(
            {"number": number, "name": started[number], "outcome": "hung" if hung else "crashed",
             "message": f"code {child.returncode}", "seconds": LONGEST * hung, "peak": 0}
        )  # fmt: skip
    return rows


def summary(rows, seeds):
    outcomes = Counter(row["outcome"] for row in rows)
    reasons = Counter(reason(row["message"]) for row in rows if row["outcome"] == "refused")
    slowest = max(rows, key=lambda row: row["seconds"])
    bad = [row for row in rows if row["outcome"] not in ("valid", "refused")]
    return {
        "count": len(rows),
        "undamaged files": len(seeds),
        "outcomes": dict(outcomes),
        "neither valid nor refused": [{k: v for k, v in row.items() if k != "peak"} for row in bad],
        "valid by file": dict(Counter(row["name"] for row in rows if row["outcome"] == "valid")),
        "peak memory above the libraries', MiB": round(max(row["peak"] for row in rows), 1),
        "memory limit, MiB": MOST_MEMORY // 2**20,
        "slowest, seconds": round(slowest["seconds"], 3),
        "slowest file": slowest["name"],
        "reading, seconds": round(sum(row["seconds"] for row in rows), 1),
        "reasons": dict(reasons.most_common(25)),
    }


def reason(message):
    """Return what is common to the messages of one reason."""
    message = re.sub(r"^[^:]*: ", "", message)
    message = re.sub(r"header is corrupt:.*", "header is corrupt", message)
    return re.sub(r"[-\d.,×]*\d[-\d.,×]*", "N", message)[:90]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        folder, first, last = arguments.worker
        work(Path(folder), arguments.seed, int(first), int(last))
        return
    result = run(arguments.count, arguments.seed)
    for name, value in result.items():
        print(f"{name}: {json.dumps(value, indent=1, ensure_ascii=False)}")
    if arguments.json:
        from importlib.metadata import version

        versions = {name: version(name) for name in ("SimpleITK", "pydicom", "nibabel", "numpy")}
        result = {"machine": arguments.machine, "versions": versions} | result
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
