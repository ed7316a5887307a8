"""Downloads from a real server on this machine: interrupted, resumed, damaged, hostile."""

import errno
import hashlib
import http.server
import io
import itertools
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from kdlib.data import catalogue, download, load_data
from kdlib.data.inventory import check_data, inventory

from .conftest import picture


class Server(http.server.BaseHTTPRequestHandler):
    """Sends one file; may stop after so many bytes, and may ignore Range."""

    url, content, stops_after, knows_ranges, asked = "", b"", None, True, []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.knows_ranges else 0
        if begin >= len(self.content):
            self.send_error(416)
            return
        rest = self.content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest if self.stops_after is None else rest[: self.stops_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    class Handler(Server):
        asked = []  # noqa: RUF012  # one list for each server

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        # Asked often whether it is to stop, because every test stops one.
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        Handler.url = f"http://127.0.0.1:{running.server_port}/set.zip"
        yield Handler
        running.shutdown()


def zipped(members, compression=zipfile.ZIP_STORED):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return raw.getvalue()


def tarred(members, mode="w"):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def jpeg(seed):
    raw = io.BytesIO()
    picture(seed).save(raw, "JPEG")
    return raw.getvalue()


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def hymenoptera(server, monkeypatch):
    """The catalogue's entry, with this server's address and a checksum."""
    server.content = zipped(
        {
            f"hymenoptera_data/{part}/{name}/{k}.jpg": jpeg(k)
            for part in ("train", "val")
            for name in ("ants", "bees")
            for k in range(8)
        }
    )
    changed = replace(catalogue.sources()["hymenoptera"], url=server.url, md5=md5(server.content))
    monkeypatch.setitem(catalogue.sources(), "hymenoptera", changed)
    return changed


def get(tmp_path):
    return download.download_data("hymenoptera", tmp_path, progress=False)


def seen(folder):
    """What a user sees in a folder; the lock stays, hidden and empty."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


def test_downloaded_checked_unpacked_and_loaded(server, hymenoptera, tmp_path):
    folder = get(tmp_path)
    assert folder == tmp_path / "hymenoptera_data"
    assert seen(tmp_path) == [folder], "neither archive nor scratch folder is left"
    assert len(load_data("hymenoptera", root=tmp_path, size=32).test) == 16
    get(tmp_path)
    assert len(server.asked) == 1, "what is there is not downloaded again"


def test_two_who_want_it_at_once_download_it_once(server, hymenoptera, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        folders = {future.result() for future in [pool.submit(get, tmp_path) for _ in range(4)]}
    assert folders == {tmp_path / "hymenoptera_data"}
    assert len(server.asked) == 1


def test_interrupted_and_resumed(server, hymenoptera, tmp_path):
    server.stops_after = 1000
    with pytest.raises(OSError, match=r"cannot be downloaded .*1000 of .* what has come is kept"):
        get(tmp_path)
    assert not (tmp_path / "hymenoptera_data").exists()
    server.stops_after = None
    get(tmp_path)
    assert server.asked == [None, "bytes=1000-"]


def test_a_server_that_ignores_where_to_begin(server, hymenoptera, tmp_path):
    server.stops_after, server.knows_ranges = 1000, False
    with pytest.raises(OSError, match="cannot be downloaded"):
        get(tmp_path)
    server.stops_after = None
    assert get(tmp_path).is_dir()


def test_interrupted_after_the_last_byte(server, hymenoptera, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(server.content)
    assert get(tmp_path).is_dir()


def test_another_file_than_the_published_one(server, hymenoptera, tmp_path):
    server.content = server.content[:-1] + b"x"
    with pytest.raises(ValueError, match=rf"has the checksum .* and not {hymenoptera.md5}; it was removed"):
        get(tmp_path)
    assert seen(tmp_path) == []


def publish(server, monkeypatch, content, inner=None):
    server.content = content
    changed = replace(catalogue.sources()["hymenoptera"], url=server.url, md5=md5(content), inner=inner)
    monkeypatch.setitem(catalogue.sources(), "hymenoptera", changed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"../outside.txt": b"bad"}), r"holds '\.\./outside\.txt', outside its own folder"),
        (tarred({"../outside.txt": b"bad"}), "holds something unsafe"),
        (zipped({"other/x.jpg": b""}), "holds no folder 'hymenoptera_data'"),
        (zipped({"set/hymenoptera_data/x.jpg": b""}), "holds no folder 'hymenoptera_data'"),
        (b"no archive at all", "cannot be unpacked"),
    ],
    ids=["zip", "tar", "other", "deeper", "none"],
)
def test_archives_that_are_something_else(server, hymenoptera, monkeypatch, tmp_path, content, message):
    publish(server, monkeypatch, content)
    root = tmp_path / "root"
    with pytest.raises(ValueError, match=message):
        get(root)
    assert not (tmp_path / "outside.txt").exists()
    assert not (root / "hymenoptera_data").exists()
    assert not list(root.glob(".part-*"))


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_without_the_one_in_it(server, hymenoptera, monkeypatch, tmp_path, make):
    publish(server, monkeypatch, make(one_of_each("hymenoptera_data")), "set/pictures.tar")
    with pytest.raises(ValueError, match=r"holds no file 'set/pictures\.tar'; it is not Hymenoptera"):
        get(tmp_path)


NOISE = b"".join(hashlib.sha256(b"%d" % k).digest() for k in range(50))
ONE = {"hymenoptera_data/x.jpg": NOISE + bytes(1000)}
# Where the content of the first file in a zip begins; that of LZMA has nine bytes before it.
FIRST = 30 + len("hymenoptera_data/x.jpg")


def spoilt(content, begin):
    """The content with other bytes in one place."""
    return content[:begin] + b"\xff" * 8 + content[begin + 8 :]


def with_password(content):
    """The content with a flag in its directory that says that there is one."""
    flags = content.index(b"PK\x01\x02") + 8
    return content[:flags] + b"\x01" + content[flags + 1 :]


def half_a_tar():
    whole = tarred(ONE, "w:gz")
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("content", "inner"),
    [
        (spoilt(zipped(ONE), 500), None),
        (spoilt(zipped(ONE, zipfile.ZIP_DEFLATED), 500), None),
        (spoilt(zipped(ONE, zipfile.ZIP_DEFLATED), FIRST), None),
        (spoilt(zipped(ONE, zipfile.ZIP_LZMA), FIRST + 9), None),
        (with_password(zipped(ONE)), None),
        (half_a_tar(), None),
        (zipped({"set/x.tar.gz": half_a_tar()}), "set/x.tar.gz"),
    ],
    ids=["stored", "middle", "beginning", "lzma", "password", "tar", "inner"],
)
def test_a_damaged_archive_is_said_in_one_sentence_and_leaves_nothing(
    server, hymenoptera, monkeypatch, tmp_path, content, inner
):
    publish(server, monkeypatch, content, inner)
    with pytest.raises(ValueError, match=r"set\.zip cannot be unpacked \(.*\); remove it and get hymenopt"):
        get(tmp_path)
    assert seen(tmp_path) == [tmp_path / "set.zip"]


def test_a_disk_that_fails_while_unpacking_is_not_taken_for_a_damaged_archive(
    server, hymenoptera, monkeypatch, tmp_path
):
    def failing(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(download, "_extract", failing)
    with pytest.raises(OSError, match="Input/output error"):
        get(tmp_path)


def one_of_each(folder, seed=0):
    places = itertools.product(("train", "val"), ("ants", "bees"), range(8))
    return {f"{folder}/{part}/{name}/{k}.jpg": jpeg(seed + k) for part, name, k in places}


@pytest.mark.parametrize("outer", [zipped, tarred])
@pytest.mark.parametrize("inner", [zipped, tarred])
def test_the_archive_in_an_archive_is_known_by_its_name(
    server, hymenoptera, monkeypatch, tmp_path, outer, inner
):
    """Others are in it, by other names and with the same folder in them; nothing else is unpacked."""
    meant, other = (inner(one_of_each("hymenoptera_data", seed)) for seed in (0, 100))
    beside = {"hymenoptera_data.tar.gz": other, "a/set/pictures": other, "set/pictures.tar": other}
    publish(
        server, monkeypatch, outer({"set/pictures2": other, "set/pictures": meant, **beside}), "set/pictures"
    )
    folder = get(tmp_path)
    assert (folder / "train" / "ants" / "0.jpg").read_bytes() == jpeg(0)
    assert seen(tmp_path) == [folder]


@pytest.mark.parametrize("make", [zipped, tarred])
def test_only_what_is_needed_is_unpacked(tmp_path, make):
    """Not a folder of the same name further down, nor one whose name goes on."""
    members = {
        "set/1.jpg": b"1",
        "x/set/2.jpg": b"2",
        "set2/3.jpg": b"3",
        "set.txt": b"4",
        "set/a/5.jpg": b"5",
    }
    (tmp_path / "archive").write_bytes(make(members))
    assert download._extract(tmp_path / "archive", "set", tmp_path / "to") == tmp_path / "to" / "set"
    files = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*.*")}
    assert files == {"set/1.jpg", "set/a/5.jpg"}


# What a Mac's Finder puts beside each file that it packs: the magic number of AppleDouble, and no archive.
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(140)


def caltech101_as_published():
    """Every kind of member of the zip at data.caltech.edu, in its order."""
    folder = {"101_ObjectCategories/._BACKGROUND_Google": APPLE_DOUBLE}
    for name in ("BACKGROUND_Google", "Faces", "ant", "zebra"):
        folder |= {f"101_ObjectCategories/{name}/image_{k:04d}.jpg": jpeg(k) for k in range(1, 11)}
    notes = {"Annotations/ant/annotation_0001.mat": NOISE, "show_annotation.m": b"% a script"}
    return zipped(
        {
            "caltech-101/": b"",
            "caltech-101/101_ObjectCategories.tar.gz": tarred(folder, "w:gz"),
            "__MACOSX/caltech-101/._101_ObjectCategories.tar.gz": APPLE_DOUBLE,
            "caltech-101/Annotations.tar": tarred(notes),
            "__MACOSX/caltech-101/._Annotations.tar": APPLE_DOUBLE,
            "caltech-101/show_annotation.m": b"% a script",
            "__MACOSX/caltech-101/._show_annotation.m": APPLE_DOUBLE,
            "__MACOSX/._caltech-101": APPLE_DOUBLE,
        }
    )


def caltech256_as_published():
    """With what its authors left in it: an empty file, a folder in a class's folder."""
    members = {}
    for number, name in enumerate(("001.ak47", "056.dog", "198.spider", "257.clutter"), 1):
        members |= {f"256_ObjectCategories/{name}/{number:03d}_{k:04d}.jpg": jpeg(k) for k in range(1, 11)}
    members["256_ObjectCategories/056.dog/greg/vision309/wgh/056_0011.jpg"] = jpeg(11)
    members["256_ObjectCategories/198.spider/RENAME2"] = b""
    return tarred(members)


def hymenoptera_as_published():
    members = {"hymenoptera_data/": b"", "hymenoptera_data/train/": b"", "hymenoptera_data/val/": b""}
    for part, name in itertools.product(("train", "val"), ("ants", "bees")):
        members |= {f"hymenoptera_data/{part}/{name}/{k}_a1b2c3.jpg": jpeg(k) for k in range(8)}
    return zipped(members | {"hymenoptera_data/train/ants/imageNotFound.gif": b"GIF89a"})


@pytest.mark.parametrize(
    ("name", "make", "classes"),
    [
        ("caltech101", caltech101_as_published, ("Faces", "ant", "zebra")),
        ("caltech256", caltech256_as_published, ("001.ak47", "056.dog", "198.spider", "257.clutter")),
        ("hymenoptera", hymenoptera_as_published, ("ants", "bees")),
    ],
)
def test_archives_as_they_are_published(server, monkeypatch, tmp_path, name, make, classes):
    """A tenth as many pictures, and everything else that is in them."""
    server.content = make()
    changed = replace(catalogue.sources()[name], url=server.url, md5=md5(server.content))
    monkeypatch.setitem(catalogue.sources(), name, changed)
    download.download_data(name, tmp_path, progress=False)
    assert load_data(name, root=tmp_path, size=32).classes == classes


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(server, hymenoptera, monkeypatch, tmp_path, number):
    def full(*_arguments):
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(download, "unpack", full)
    with pytest.raises(OSError, match=r"the disk of .* is full; make room, or name another with KDLIB_DATA"):
        get(tmp_path)


def test_a_server_that_is_not_there(hymenoptera, monkeypatch, tmp_path):
    nowhere = replace(hymenoptera, url="http://127.0.0.1:9/set.zip")
    monkeypatch.setitem(catalogue.sources(), "hymenoptera", nowhere)
    with pytest.raises(OSError, match="cannot be downloaded"):
        get(tmp_path)


@pytest.mark.parametrize("name", ["cifar10-jpeg", "imagenet"])
def test_nothing_to_download(tmp_path, name):
    with pytest.raises(ValueError, match=rf"nothing to download for '{name}'; there is for cifar10, "):
        download.download_data(name, tmp_path)


def test_what_is_here_and_whether_it_is_whole(server, hymenoptera, monkeypatch, tmp_path):
    assert any("hymenoptera    not here" in line for line in inventory(tmp_path))
    with pytest.raises(FileNotFoundError, match="kd data get hymenoptera"):
        check_data("hymenoptera", tmp_path)
    get(tmp_path)
    assert any("hymenoptera    here" in line for line in inventory(tmp_path))
    with pytest.raises(ValueError, match="has 32 images in 2 classes, and should have 397 in 2"):
        check_data("hymenoptera", tmp_path)
    monkeypatch.setitem(catalogue.sources(), "hymenoptera", replace(hymenoptera, images=32))
    assert "32 images in 2 classes, as it should be" in check_data("hymenoptera", tmp_path)
    with pytest.raises(ValueError, match="digits come with scikit-learn"):
        check_data("digits")
