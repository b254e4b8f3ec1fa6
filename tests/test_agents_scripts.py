from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relay.agents.pipe_options import PipeParameters

M = "{local}"


class ScriptTests(SynchronousTestCase):
    def test_no_mail_stands_in_what_an_interpreter_reads_as_a_program(self) -> None:
        script = f"cat >/dev/null; echo got {M}"
        for command in (
            ["/bin/sh", "-c", script],
            ["/bin/bash", "-lc", script],
            ["/bin/dash", "-ec", script],
            ["/bin/sh", "-c", "-e", script],
            ["/bin/sh", "-c", "--", script],
            ["/bin/bash", "-o", "pipefail", "-c", script],
            ["/bin/bash", "-ceuo", "pipefail", script],
            ["/bin/bash", "--rcfile", "/x", "-c", script],
            ["/bin/bash", "--rcfile", M],
            ["/bin/bash", "+x", "-c", script],
            ["/bin/sh", f"-{M}", "x"],
            ["/bin/sh", f"/srv/{M}"],
            ["/bin/ksh93", "-c", script],
            ["/bin/zsh", "-c", script],
            ["/usr/bin/fish", f"--command={script}"],
            ["/bin/busybox", "sh", "-c", script],
            ["/usr/bin/env", "A=b", "sh", "-c", script],
            ["/usr/bin/env", "-S", f"sh -c {M}"],
            ["/usr/bin/env", f"-vSsh -c {M}"],
            ["/usr/bin/nice", "-n", "5", "/bin/sh", "-c", script],
            ["/usr/bin/timeout", "-k", "5", "60", "bash", "-c", script],
            ["/usr/bin/sudo", "-u", "jon", "nice", "sh", "-c", script],
            ["/bin/su", "jon", "-c", script],
            ["/usr/bin/flock", "/lock", "--command", script],
            ["/usr/bin/perl", "-e", script],
            ["/usr/bin/perl", "-lne", script],
            ["/usr/bin/perl", "-we", "1;", "-e", script],
            ["/usr/bin/perl", f"-e{script}"],
            ["/usr/bin/perl", f"-M{M}", "-e", "1"],
            ["/usr/bin/python3", "-c", script],
            ["/usr/bin/python3.12", "-Ic", script],
            ["/usr/bin/python3", "-W", "error", "-c", script],
            ["/usr/bin/python3", f"-uc{script}"],
            ["/usr/bin/ruby", "-e", script],
            ["/usr/bin/ruby", "-r", "json", "-ne", script],
            ["/usr/bin/node", "-e", script],
            ["/usr/bin/node", "--eval", script],
            ["/usr/bin/node", "--require", "x", f"--print={script}"],
            ["/usr/bin/awk", f"{{ print > {M} }}"],
            ["/usr/bin/gawk", "-F", ":", "-v", "a=b", f"BEGIN {M}"],
            ["/usr/bin/awk", f"-{M}v", "1"],
            ["/bin/sed", "-n", "-e", f"s/x/{M}/e"],
        ):
            with self.assertRaises(ValueError, msg=str(command)) as raised:
                PipeParameters(command=tuple(command))
            self.assertIn('give it as an argument behind, "$1" in a shell', str(raised.exception))

    def test_it_may_stand_behind_the_program(self) -> None:
        for command in (
            ["/bin/sh", "-c", 'echo got "$1"', "sh", M],
            ["/bin/sh", "-ec", 'echo got "$1"', "sh", "-c", M],
            ["/bin/bash", "-o", "pipefail", "-c", 'echo "$1"', "sh", M],
            ["/bin/sh", "/srv/take", M],
            ["/usr/bin/timeout", "60", "sh", "-c", 'echo "$1"', "sh", M],
            ["/usr/bin/env", "A=b", "/usr/local/bin/ticket", f"--to={M}"],
            ["/usr/bin/perl", "-ne", "print @ARGV", "--", M],
            ["/usr/bin/python3", "-I", "-c", "import sys", f"--to={M}", "-c", M],
            ["/usr/bin/python3", "-m", "ticket", M],
            ["/usr/bin/awk", "-v", f"to={M}", "{ print to }"],
            ["/usr/bin/awk", f"-vto={M}", "{ print to }", f"x={M}"],
            ["/usr/local/bin/ticket", "-c", M],
            ["/usr/local/bin/show", M],
        ):
            self.assertEqual(PipeParameters(command=tuple(command)).command, tuple(command))

    def test_no_interpreter_is_left_to_run_the_message_itself(self) -> None:
        for command in (
            ["/bin/sh"],
            ["/bin/bash", "-e"],
            ["/bin/bash", "-o", "pipefail"],
            ["/bin/sh", "-s", "x"],
            ["/bin/sh", "-"],
            ["/bin/sh", "--"],
            ["/bin/dash", "/dev/stdin"],
            ["/usr/bin/fish", "--login"],
            ["/usr/bin/env", "A=b", "sh"],
            ["/usr/bin/timeout", "60", "nice", "-n", "5", "bash", "-l"],
            ["/bin/busybox", "sh"],
            ["/usr/bin/python3"],
            ["/usr/bin/python3", "-"],
            ["/usr/bin/python3.12", "-I", "-W", "error", "-"],
            ["/usr/bin/perl", "-w"],
            ["/usr/bin/ruby", "-r", "json"],
            ["/usr/bin/node"],
            ["/usr/bin/php"],
            ["/usr/bin/awk", "-f", "-"],
            ["/bin/sed", "-n", "-f", "/dev/stdin"],
            ["/bin/su", "-", "jon"],
            ["/usr/bin/sudo", "-u", "jon", "runuser", "jon"],
        ):
            with self.assertRaises(ValueError, msg=str(command)) as raised:
                PipeParameters(command=tuple(command))
            self.assertIn("would take the message itself for one", str(raised.exception))

    def test_an_interpreter_that_is_told_its_program_may_run(self) -> None:
        for command in (
            ["/bin/sh", "-c", "cat"],
            ["/bin/sh", "-ec", "cat", "-s"],
            ["/bin/sh", "-", "/srv/take"],
            ["/bin/sh", "-e", "--", "/srv/take"],
            ["/usr/bin/fish", "--command=cat"],
            ["/usr/bin/python3", "-m", "ticket"],
            ["/usr/bin/python3", "-uc", "pass"],
            ["/usr/bin/python3", "/srv/take", "-"],
            ["/usr/bin/perl", "-ne", "print"],
            ["/usr/bin/node", "--eval=1"],
            ["/usr/bin/awk", "{ print }"],
            ["/bin/sed", "-n", "-f", "/srv/script"],
            ["/bin/su", "jon", "-c", "cat"],
            ["/usr/bin/runuser", "-u", "jon", "/srv/take"],
            ["/usr/bin/timeout", "60", "/srv/take", "python"],
            ["/usr/local/bin/take", "sh"],
            ["/bin/cat"],
        ):
            self.assertEqual(PipeParameters(command=tuple(command)).command, tuple(command))
