"""Files written whole or not at all, and never over what a command reads."""

from __future__ import annotations

import os
import platform
import re
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path, PurePath

from facekit.base.installation import demo_dir, package_dir, templates_dir
from facekit.errors import ArgumentError, FacekitError

# What a file is known by, whatever it is called: its device and inode, or its path where there are none.
FileKey = tuple[int, int] | str
MAX_NAME_BYTES = 255  # that disks take
OTHERS_PART_S = 24 * 3600  # for so long what another machine or container left half-written may still be written to
_HALF_WRITTEN = re.compile(r"\..*\.(?:([0-9a-f]{6})-\d+-)?(\d+)\.part(\.[^.]*)?", re.DOTALL)  # see _own_number()
# Files that are read with another, of the same name but for the suffix.
SIBLINGS = {".xml": (".bin",), ".param": (".bin",), ".bin": (".xml", ".param")}


def file_key(path: Path) -> FileKey | None:
    """None where there is no such file. Links, hard links and other spellings of one file have one key."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.normcase(path.resolve())


def real_path(path: Path) -> Path:
    """Without links, also where they lead round in a circle, which Path.resolve() refuses."""
    return Path(os.path.realpath(path))


class Inputs:
    """The files that a command reads, as they become known, and the files that it is going to write.

    Raises FacekitError as soon as one of the latter turns out to be one of the former, by whatever name or link.
    Folders among the inputs stand for nothing: what is read in them is added when that is known.
    """

    def __init__(self, reads: Iterable[Path | None], writes: Iterable[Path | None]) -> None:
        self.writes = [path for path in writes if path is not None]
        self._reads: list[Path] = []
        self._keys: dict[FileKey, Path] = {}
        self._known = 0  # of _reads, those whose keys were asked for: only where a file is written over
        self._refuse_twins()
        self.add(reads)

    def _refuse_twins(self) -> None:
        taken: set[str] = set()
        for target in self.writes:
            place = os.path.normcase(os.path.realpath(target))
            if place in taken:
                raise ArgumentError(f"{target}: two outputs would be this one file. Give each a name of its own.")
            taken.add(place)

    def add(self, reads: Iterable[Path | None]) -> None:
        for path in reads:
            if path is not None:
                self._reads.append(path)
                self._reads += [path.with_suffix(other) for other in SIBLINGS.get(path.suffix.lower(), ())]
        for target in self.writes:
            self.refuse(target)

    def refuse(self, target: Path) -> None:
        """Raises FacekitError where the target is there and is read, or is no file."""
        _refuse_device(target)
        key = file_key(target)
        if key is None or target.is_dir():
            return
        _refuse_own(target)
        for path in self._reads[self._known :]:
            if (found := file_key(path)) is not None:
                self._keys.setdefault(found, path)
        self._known = len(self._reads)
        if key in self._keys:
            source = self._keys[key]
            also = "" if source == target else f" (as {source})"
            raise FacekitError(
                f"{target}: would be written over, but this command reads it{also}. Choose another name or folder to "
                f"write to."
            )


# Of the commands that run now, in all threads: a command may write in another thread than it reads in.
_running: list[Inputs] = []
_running_lock = threading.Lock()


def check_outputs(reads: Iterable[Path | None], writes: Iterable[Path | None]) -> None:
    """Asked before any work: raises FacekitError where a file to be written is one of those that are read, by whatever
    name or link, or where two outputs are one file. None is passed over, for options that weren't given."""
    Inputs(reads, writes)


@contextmanager
def protecting(reads: Iterable[Path | None], writes: Iterable[Path | None] = ()) -> Iterator[None]:
    """As check_outputs, and while entered: nothing that goes through this file writes over the inputs, nor over those
    that note_inputs() adds. May be nested."""
    inputs = Inputs(reads, writes)
    with _running_lock:
        _running.append(inputs)
    try:
        yield
    finally:
        with _running_lock:
            _running[:] = [others for others in _running if others is not inputs]


def _all_running() -> list[Inputs]:
    with _running_lock:
        return list(_running)


def note_inputs(paths: Iterable[Path]) -> None:
    """Adds what a command finds that it reads, such as the pictures that labels name. Raises FacekitError where the
    command is to write one of them."""
    if running := _all_running():
        found = list(paths)
        for inputs in running:
            inputs.add(found)


def check_not_input(path: Path) -> None:
    """Raises FacekitError where a command that runs now reads this file, or it came with facekit: for what writes,
    moves or removes files other than by replacing(). And for what is no file."""
    _refuse_device(path)
    if file_key(path) is not None:
        _refuse_own(path)
    for inputs in _all_running():
        inputs.refuse(path)


def _refuse_device(target: Path) -> None:
    """Raises FacekitError for a device or a pipe, by whatever link: it would give way to a file, for the whole machine
    where root does so. What lies in /dev and /proc is one, whatever it leads to: standard output, say."""
    places = [target]
    with suppress(OSError, ValueError):  # no link, or no name that can be
        places.append(target.parent / target.readlink())
    folders = [real_path(place.parent) for place in places]
    is_systems = any(folder == Path("/dev") or folder.is_relative_to("/proc") for folder in folders)
    if file_key(target) is not None and (is_systems or not (target.is_file() or target.is_dir())):
        raise FacekitError(
            f"{target}: is a device or a pipe: a file would take its place. Give the name of a file. (`facekit detect` "
            f"prints rows for `-`.)"
        )


def _refuse_own(target: Path) -> None:
    """Raises FacekitError for a file that came with facekit: commands read some without being told to."""
    place = real_path(target)
    is_listed = place.parent == templates_dir()  # what tools make of all templates
    if not is_listed and any(place.is_relative_to(folder) for folder in _own_folders()):
        raise FacekitError(
            f"{target}: would be written over, but it is a file of facekit itself. Choose another name or folder to "
            f"write to."
        )


@cache
def _own_folders() -> tuple[Path, ...]:
    return package_dir(), templates_dir(), demo_dir()


def beside_name(path: Path) -> Path:
    """Where replacing() writes to before it moves the file to path: in the same folder, of the same kind."""
    return path.with_name(_part_name(path.stem, path.suffix))


def _part_name(stem: str, suffix: str = "") -> str:
    """Cut to what disks take, by whole characters: of halves no UTF-8 can be made, as OpenCV and others want it."""
    end = f".{_own_number()}.part{suffix}"
    while len(os.fsencode(f".{stem}{end}")) > MAX_NAME_BYTES:
        stem, end = stem[:-1], end if stem else end[:-1]
    return f".{stem}{end}"


def _own_number() -> str:
    """In names of what this thread writes now. Others may write there at the same time: threads, and processes of other
    containers and machines, whose numbers may be the same."""
    return f"{_here()}-{threading.get_native_id()}-{os.getpid()}"


def _here() -> str:
    """Six digits, base 16, of the machine and the container within which a process's number is its alone."""
    container = ""
    with suppress(OSError):  # Linux alone has it
        container = str(Path("/proc/self/ns/pid").readlink())
    return f"{zlib.crc32(f'{platform.node()} {container}'.encode()) & 0xFFFFFF:06x}"


@contextmanager
def replacing(path: Path, sync: bool = True, beside: Path | None = None) -> Iterator[Path]:
    """Gives a path beside `path` to write to; moves it to `path` when the block ends well, removes it otherwise.

    beside: an earlier beside_name() of the path, for what is written already, maybe by another thread.
    Makes the folder. Raises FacekitError where the disk refuses, and for what a command reads (see protecting).
    Without sync a power cut may leave an empty file: for thousands of files, with one sync_disk() behind them.
    """
    if not path.name:
        raise FacekitError(f"{path}: can't be written: it is a folder. Give the name of a file in it.")
    check_not_input(path)
    beside = beside or beside_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if sync:  # not among thousands of files, whose command has looked at the folder
            remove_leftovers(path.parent)
        yield beside
        with beside.open("rb") if sync else nullcontext() as written:
            if written is not None:
                os.fsync(written.fileno())  # or a power cut could leave the new name on an empty file
        beside.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        named = Path(*(part for part in path.parts if not _HALF_WRITTEN.fullmatch(part)))  # where the set is to go
        raise FacekitError(
            f"{named}: can't be written ({error.strerror or error}). Choose a place you may write to, with space."
        ) from error
    finally:
        with suppress(OSError):  # never written, such as for a name that is too long
            beside.unlink()


def is_passed_over(path: PurePath) -> bool:
    """Whether readers of folders leave the file alone: half-written, or what macOS puts beside files that it copies."""
    return path.name.startswith("._") or is_half_written(path)


def is_half_written(path: PurePath) -> bool:
    """Whether replacing() left this file behind in a power cut."""
    return _HALF_WRITTEN.fullmatch(path.name) is not None


def _sync_folder(folder: Path) -> None:
    """Makes names last: after a power cut the folder could else still hold the old ones."""
    with suppress(OSError):  # some systems and file systems know no such thing
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_new(path: Path, force: bool) -> None:
    """Raises FacekitError where a file would be written over unasked: it may have been mended by hand since."""
    if path.exists() and not force:
        raise FacekitError(f"{path}: is there already. Choose another file, or give `force=True`.")


def check_ours(path: Path, is_ours: Callable[[Path], bool], otherwise: str) -> None:
    """Raises FacekitError for a file that is there and facekit didn't write: replaced, it would be lost. Empty ones are
    nobody's.

    otherwise: what is said of another's, such as "is no page that facekit wrote".
    """
    if path.is_file() and path.stat().st_size and not is_ours(path):
        raise FacekitError(
            f"{path}: is there already, and {otherwise}: it would be lost. Choose another name, or delete it first."
        )


def check_place(path: Path) -> None:
    """Raises FacekitError where a file can't take this place: a folder lies there, a file lies where one of its folders
    would, or nothing may be written there. Makes nothing."""
    if path.is_dir():
        raise FacekitError(f"{path}: can't be written: a folder is there. Choose another place, or move it away first.")
    parent = next(parent for parent in path.parents if os.path.lexists(parent))
    if not parent.is_dir():
        raise FacekitError(
            f"{path}: can't be written: {parent} is a file. Choose another place, or move it away first."
        )
    if not os.access(parent, os.W_OK):
        raise FacekitError(f"{path}: can't be written: {parent} is not yours to write to. Choose another place.")


def check_writable_folder(folder: Path) -> None:
    """Makes the folder, takes what killed processes left half-written out of it, and raises FacekitError when nothing
    can be written there: asked before hours of work."""
    probe = folder / f".write-test-{_own_number()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        remove_leftovers(folder)
    except OSError as error:
        raise FacekitError(f"{folder}: can't write there ({error.strerror}). Choose another output folder.") from error


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a file a second name, or a copy where the file system knows no hard links; the target is replaced whole."""
    with replacing(target) as beside:
        try:
            os.link(source, beside)
        except OSError:
            beside.write_bytes(source.read_bytes())


@contextmanager
def replacing_set(folder: Path) -> Iterator[Path]:
    """Gives a folder to write files to that belong together, or folders of them; moves them all into `folder` when the
    block ends well, and removes them otherwise: where one can't be moved, those before it are put back. Killed outright
    between two moves, it leaves new files beside old ones. Makes the folder. Raises as replacing(), check_place()."""
    scratch = folder / f".set.{_own_number()}.part"
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # of a killed process of the same number
        scratch.mkdir(parents=True, exist_ok=True)
        yield scratch
        files = sorted((path for path in scratch.rglob("*") if path.is_file()), key=_in_pairs)
        moves = {file: folder / file.relative_to(scratch) for file in files}
        for file, place in moves.items():
            check_not_input(place)
            check_place(place)
            with file.open("rb") as written:
                os.fsync(written.fileno())
        _move_all(moves, scratch / ".old")
        for touched in {place.parent for place in moves.values()}:
            _sync_folder(touched)
    except OSError as error:
        raise FacekitError(
            f"{folder}: can't be written ({error.strerror or error}). Choose a place you may write to, with space."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _in_pairs(file: Path) -> tuple[bool, bool, Path, str]:
    """Sorts files to move: pairs one right behind the other, for a kill between them, and last what tells of others."""
    return file.suffix == ".md", file.suffix not in SIBLINGS, file.with_suffix(""), file.name


def _move_all(moves: dict[Path, Path], old: Path) -> None:
    """Moves each file to its place, or none of them. old: a folder for second names of what lies there."""
    old.mkdir()
    kept: dict[Path, Path] = {}
    for number, place in enumerate(moves.values()):
        place.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(place):
            kept[place] = old / str(number)
            _keep(place, kept[place])
    begun: list[Path] = []
    try:
        for file, place in moves.items():
            begun.append(place)
            file.replace(place)
    except BaseException as error:  # also of Ctrl-C and SIGTERM
        lost = [place for place in begun if not _put_back(kept.get(place), place)]
        if lost:
            names = ", ".join(map(str, lost))
            raise FacekitError(f"{names}: may be the new one, beside old files: it can't be put back.") from error
        raise


def _keep(source: Path, target: Path) -> None:
    """Gives a file, or a link, a second name, or a copy where the file system knows no hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)


def _put_back(kept: Path | None, place: Path) -> bool:
    """Undoes a move, also one that never happened; kept: what lay at the place. False where that fails."""
    try:
        if kept is None:
            place.unlink(missing_ok=True)
        else:
            kept.replace(place)
    except OSError:
        return False
    return True


@contextmanager
def making_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder of the same name to fill, which takes its place when the block ends well. Where `folder` holds
    something already it is given itself: there only each file is whole. Raises as replacing()."""
    if folder.is_dir() and any(folder.iterdir()):
        yield folder
        return
    scratch = folder.absolute().parent / _part_name(folder.name)
    try:
        (scratch / folder.name).mkdir(parents=True, exist_ok=True)
        remove_leftovers(scratch.parent)
        yield scratch / folder.name
        sync_disk()
        if folder.is_dir():
            folder.rmdir()
        (scratch / folder.name).replace(folder)
        _sync_folder(scratch.parent)
    except OSError as error:
        raise FacekitError(
            f"{folder}: can't be written ({error.strerror or error}). Choose a place you may write to, with space."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed in the middle of writing left; those that live are let be. Of another
    machine or container nobody knows which do: theirs goes a day after it was last written to."""
    with suppress(OSError):
        for part in folder.iterdir():
            name = _HALF_WRITTEN.fullmatch(part.name)
            if name is None or (_is_alive(int(name[2])) if name[1] in (None, _here()) else _is_young(part)):
                continue
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part, ignore_errors=True)
            else:
                with suppress(OSError):
                    part.unlink()


def _is_young(part: Path) -> bool:
    newest = max(path.lstat().st_mtime for path in (part, *part.rglob("*")))
    return time.time() - newest < OTHERS_PART_S


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sync_disk() -> None:
    """Waits until all that was written is on the disk, where the system can do that."""
    getattr(os, "sync", lambda: None)()


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Writes UTF-8 text, whole or not at all; sync as in replacing()."""
    with replacing(path, sync) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")
