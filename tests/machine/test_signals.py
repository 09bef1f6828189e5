from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from facekit.errors import FacekitError, Interrupted
from facekit.machine.launch import run_and_forward
from facekit.machine.signals import StopSignals, sigterm_unwinding


class TestStopSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_first_is_noted_and_handlers_come_back(
        self, number: signal.Signals, capfd: pytest.CaptureFixture[str]
    ) -> None:
        before = signal.getsignal(number)
        with StopSignals() as signals:
            assert signals.received == 0
            os.kill(os.getpid(), number)
            assert signals.received == number
        assert signal.getsignal(number) is before
        assert "Stopping after this step; once more stops at once" in capfd.readouterr().err

    def test_second_ends_the_process(self) -> None:
        script = (
            "import os, signal\nfrom facekit.machine.signals import StopSignals\n"
            "with StopSignals():\n    os.kill(os.getpid(), signal.SIGTERM)\n    print('one', flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n    print('two')"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (-signal.SIGTERM, "one\n")

    def test_a_terminal_that_is_closed(self) -> None:
        """Nothing can be written there any more; the shell may send the signal, too."""
        pty = pytest.importorskip("pty", reason="needs POSIX")
        script = (
            "import os, signal, sys\nfrom facekit.machine.signals import StopSignals\n"
            "with StopSignals() as signals:\n    print('on', flush=True)\n"
            "    while not signals.received:\n        pass\n"
            "    os.kill(os.getpid(), signal.SIGHUP)\n"
            "    print('bar', file=sys.stderr, flush=True)\n    sys.exit(signals.received)"
        )
        ours, its = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=its, stdout=its, stderr=its, start_new_session=True
        ) as process:
            os.close(its)
            assert os.read(ours, 2) == b"on"
            os.close(ours)
            process.send_signal(signal.SIGHUP)
            assert process.wait(30) == signal.SIGHUP

    def test_ignored_signals_stay_ignored(self) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with StopSignals() as signals:
                os.kill(os.getpid(), signal.SIGINT)
                assert signals.received == 0
        finally:
            signal.signal(signal.SIGINT, before)

    def test_a_programs_own_sighup_stays(self) -> None:
        heard: list[int] = []
        before = signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
        try:
            with StopSignals() as stop:
                os.kill(os.getpid(), signal.SIGHUP)
            assert heard == [signal.SIGHUP] and not stop.received
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_other_threads_do_without(self) -> None:
        raised: list[BaseException] = []

        def enter() -> None:
            try:
                with StopSignals() as signals:
                    assert signals.received == 0
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert raised == []


class TestSigtermUnwinding:
    def test_raises_and_gives_the_signal_back(self) -> None:
        ended = []
        with pytest.raises(SystemExit) as caught, sigterm_unwinding():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                ended.append(1)
        assert caught.value.code == 143 and ended == [1]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def test_leaves_others_handlers_alone(self) -> None:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            with sigterm_unwinding():
                os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGTERM, before)


class TestShieldedWorker:
    SCRIPT = """
import os, signal, sys, time
from facekit.machine.signals import shield_worker
child = os.fork()
if child == 0:
    shield_worker(0)
    os.write(1, b"ready\\n")
    time.sleep(30)
    os._exit(7)
if sys.argv[1] == "parent":
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
else:
    os.write(1, f"{child}\\n".encode())
    time.sleep(1.0)
    os.write(1, b"alive\\n" if os.waitpid(child, os.WNOHANG)[0] == 0 else b"dead\\n")
    os.kill(child, signal.SIGKILL)
print(os.waitpid(child, 0)[1], flush=True)
"""

    def test_obeys_its_parent(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT, "parent"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout.split() == ["ready", "0"]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_outlives_others(self, number: signal.Signals) -> None:
        process = subprocess.Popen([sys.executable, "-c", self.SCRIPT, "other"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(2)]
        os.kill(int(next(line for line in lines if line.isdigit())), number)
        assert process.communicate(timeout=60)[0].split() == ["alive", str(int(signal.SIGKILL))]


class TestRunAndForward:
    def test_good_and_bad_ends(self) -> None:
        run_and_forward([sys.executable, "-c", ""])
        with pytest.raises(FacekitError, match="A training process failed"):
            run_and_forward([sys.executable, "-c", "raise SystemExit(3)"])

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_hands_signals_on_and_waits(self, tmp_path: object, number: signal.Signals) -> None:
        trace = f"{tmp_path}/trace"
        script = (
            f"import os, signal, sys, time\nsignal.signal({int(number)}, lambda *_: stop())\n"
            f"def stop():\n    time.sleep(0.3); open({trace!r}, 'w').close(); sys.exit(1)\n"
            f"os.kill(os.getppid(), {int(number)}); time.sleep(30)"
        )
        with pytest.raises(Interrupted) as caught:
            run_and_forward([sys.executable, "-c", script])
        assert caught.value.exit_code == 128 + number
        assert os.path.exists(trace)  # noqa: PTH110
