"""cellput: what it stores, what it prints and when, and how it ends."""
import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import time

from toolset import (BUSY, CORRUPT, DONE, MAX_INDEX, SYSTEM, Store, ToolTest, command, content, goldens, main,
                     start_index)

SIZES = (0, 1, 25, 26, 27, 58, 59, 65534, 65535, 65536, 131070, 131071, 1000000)


def lines_of(output):
    """[(index, bytes, name)] of cellput's output."""
    rows = [line.split("\t", 2) for line in output.decode().splitlines()]
    return [(int(index), int(size), name) for index, size, name in rows]


class PutTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.store = self.path("store")

    def create(self, *args, **more):
        return self.expect(DONE, "cellput", "--create", "--max-index", MAX_INDEX, self.store, *args, **more)

    def value(self, index, *args):
        return self.expect(DONE, "cellget", self.store, index, *args).stdout


class Files(PutTest):
    def test_files(self):
        names = [self.write("f%d" % size, content(size, size)) for size in SIZES]
        rows = lines_of(self.create(*names).stdout)
        self.assertEqual([(size, name) for _, size, name in rows], list(zip(SIZES, names)))
        next_index = start_index(32)
        for index, size, _ in rows:
            chunks = [65535] * (size // 65535) + ([size % 65535] if size % 65535 or not size else [])
            next_index += sum(-(-(chunk + 6) // 32) for chunk in chunks)
            self.assertEqual(index, next_index - 1)
            self.assertEqual(self.value(index), content(size, size))
            self.assertEqual(self.expect(DONE, "celldump", "chunk", self.store, index, "--raw").stdout,
                             content(size, size))
        info = self.info(self.store)
        self.assertEqual((info["state"], info["root_index"], info["next_index"]), ("clean", rows[-1][0], next_index))
        self.assertEqual(info["problems"], [])

    def test_standard_input(self):
        rows = lines_of(self.create(stdin=b"a\0b\n").stdout)
        self.assertEqual(rows, [(8, 4, "-")])
        self.assertEqual(self.value(8), b"a\0b\n")
        name = self.write("f", b"file")
        rows = lines_of(self.expect(DONE, "cellput", self.store, name, "-", name, stdin=b"in").stdout)
        self.assertEqual(rows, [(9, 4, name), (10, 2, "-"), (11, 4, name)])
        self.assertEqual(self.info(self.store)["root_index"], 11)

    def test_both_paths(self):
        """Through a window and by pages: the same store."""
        stores = {}
        for path, args in (("window", ()), ("pages", ("--pages",))):
            self.store = self.path(path)
            done = self.create("--verbose", "--key-file", self.path("key"), *args, stdin=content(1, 300000))
            self.assertIn(b"through pages" if args else b"through ", done.stderr)
            stores[path] = bytearray(self.read(path))
            stores[path][168:176] = bytes(8)  # the boot mark is each file's own
            got = self.expect(DONE, "cellget", self.store, "--root", "--verbose", *args)
            self.assertEqual(got.stdout, content(1, 300000))
            self.assertIn(b"through pages" if args else b"through ", got.stderr)
        self.assertEqual(stores["window"], stores["pages"])

    def test_empty_input_is_a_value(self):
        self.assertEqual(lines_of(self.create().stdout), [(8, 0, "-")])
        self.assertEqual(self.value(8), b"")

    def test_standard_input_from_a_file_not_at_its_start(self):
        path = self.write("f", b"0123456789")
        with open(path, "rb", buffering=0) as file:
            file.seek(4)
            self.create(stdin=file)
        self.assertEqual(self.value(8), b"456789")

    def test_fifo_as_file(self):
        os.mkfifo(self.path("fifo"))
        with subprocess.Popen(["sh", "-c", 'printf "through a pipe" > "$0"', self.path("fifo")]):
            self.create(self.path("fifo"))
        self.assertEqual(self.value(8), b"through a pipe")

    def test_name_that_looks_like_an_option(self):
        with open(self.path("-x"), "wb") as file:
            file.write(b"x")
        done = self.expect(DONE, "cellput", "--create", "--max-index", 1000, "s", "--", "-x", cwd=self.folder)
        self.assertEqual(lines_of(done.stdout), [(8, 1, "-x")])


class Lines(PutTest):
    def put(self, text, *args):
        return lines_of(self.create("--lines", *args, stdin=text).stdout)

    def test_lines(self):
        self.assertEqual(self.put(b"one\n\n\0\r\nlast"), [(8, 3, "1"), (9, 0, "2"), (10, 2, "3"), (11, 4, "4")])
        self.assertEqual([self.value(i) for i in range(8, 12)], [b"one", b"", b"\0\r", b"last"])
        self.assertEqual(self.info(self.store)["root_index"], 11)

    def test_newline_at_the_end(self):
        self.assertEqual(self.put(b"one\n"), [(8, 3, "1")])

    def test_no_line(self):
        self.assertEqual(self.put(b""), [])
        info = self.info(self.store)
        self.assertEqual((info["next_index"], info["root_index"], info["state"]), (8, None, "clean"))

    def test_long_line(self):
        line = content(1, 300000).replace(b"\n", b"x")
        rows = self.put(line + b"\n" + b"y")
        self.assertEqual([(size, name) for _, size, name in rows], [(300000, "1"), (1, "2")])
        self.assertEqual(self.value(rows[0][0]), line)

    def test_several_files_count_on(self):
        first, second = self.write("a", b"1\n2"), self.write("b", b"3\n4\n")
        self.assertEqual([name for _, _, name in self.put(b"", first, second)], ["1", "2", "3", "4"])


class Creation(PutTest):
    def test_defaults(self):
        self.expect(DONE, "cellput", "--create", self.store)
        info = self.info(self.store)
        self.assertEqual(bytes.fromhex(info["head_string"]), b"CELLAR" + b" " * 14)
        self.assertEqual((info["bytes_per_cell"], info["max_index"], info["version"]), (32, 4294967039, 1))

    def test_config(self):
        self.expect(DONE, "cellput", "--create", "--cell-bytes", 100, "--max-index", 5000, "--head",
                    "twenty bytes in head", "--version-number", 4294967295, "--resize-step", "8K", self.store)
        info = self.info(self.store)
        self.assertEqual(bytes.fromhex(info["head_string"]), b"twenty bytes in head")
        self.assertEqual((info["bytes_per_cell"], info["max_index"], info["version"]), (100, 5000, 4294967295))
        self.assertEqual(info["start_index"], 3)

    def test_short_head(self):
        for head in ("", "x", "abc"):
            store = self.path("store" + head)
            self.expect(DONE, "cellput", "--create", "--max-index", 1000, "--head", head, store)
            self.assertEqual(bytes.fromhex(self.info(store)["head_string"]), head.encode().ljust(20))

    def test_cell_sizes(self):
        for bytes_per_cell in (4, 5, 7, 32, 255, 256, 257, 4096, 65535):
            store = self.path("b%d" % bytes_per_cell)
            done = self.expect(DONE, "cellput", "--create", "--cell-bytes", bytes_per_cell, "--max-index", 50000, store,
                               stdin=content(1, 100000))
            index = lines_of(done.stdout)[0][0]
            self.assertEqual(self.expect(DONE, "cellget", store, index).stdout, content(1, 100000))
            self.assertEqual(self.info(store)["state"], "clean")

    def test_existing_store(self):
        self.create()
        before = self.read("store")
        done = self.expect(SYSTEM, "cellput", "--create", self.store, stdin=b"x")
        self.assertIn(self.store.encode(), done.stderr)
        self.assertEqual((done.stdout, self.read("store")), (b"", before))

    def test_no_store_for_a_missing_input(self):
        """A first input that isn't there leaves no store that would be in the way of the next try."""
        done = self.expect(SYSTEM, "cellput", "--create", "--max-index", MAX_INDEX, self.store, self.path("none"))
        self.assertIn(b"none", done.stderr)
        self.assertFalse(os.path.exists(self.store))

    def test_missing_store(self):
        done = self.expect(SYSTEM, "cellput", self.store, stdin=b"x")
        self.assertIn(b"--create", done.stderr)
        self.assertEqual(os.listdir(self.folder), [])

    def test_checksums(self):
        sums = self.store + ".cellar-sums"
        self.expect(DONE, "cellput", "--create", "--checksums", "--max-index", MAX_INDEX, self.store,
                    stdin=content(1, 100000))
        self.assertTrue(os.path.exists(sums))
        self.expect(DONE, "cellput", "--lines", "--flush-every", 1, self.store, stdin=b"one\ntwo\n")
        done = self.expect(DONE, "cellsum", "check", self.store)
        self.assertIn(b"without  0 bytes", done.stdout)
        self.assertIn(b"sums     good", done.stdout)

    def test_no_checksums_unless_asked_for(self):
        self.create()
        self.assertFalse(os.path.exists(self.store + ".cellar-sums"))

    def test_lost_checksums_are_said(self):
        self.expect(DONE, "cellput", "--create", "--checksums", "--max-index", MAX_INDEX, self.store, stdin=b"x")
        os.rename(self.store + ".cellar-sums", self.path("elsewhere"))
        done = self.expect(DONE, "cellput", self.store, stdin=b"y")
        self.assertIn(b"lost", done.stderr)
        self.assertIn(b"cellsum", done.stderr)
        self.assertEqual(self.expect(DONE, "cellget", self.store, "--root").stdout, b"y")
        os.rename(self.path("elsewhere"), self.store + ".cellar-sums")
        self.assertEqual(self.expect(DONE, "cellput", self.store, stdin=b"z").stderr, b"")
        self.expect(DONE, "cellsum", "check", self.store)

    def test_rotten_checksums_are_said(self):
        """The last block has rotted before more is put in: the value is, the checksums are left as they are."""
        self.expect(DONE, "cellput", "--create", "--checksums", "--max-index", MAX_INDEX, self.store, stdin=b"x" * 999)
        data = bytearray(self.read("store"))
        data[300] ^= 4
        self.write("store", data)
        self.assertIn(b"stale", self.expect(DONE, "cellput", self.store, stdin=b"y").stderr)
        self.assertIn(b"offset 300: bit 2", self.expect(CORRUPT, "cellsum", "check", self.store).stdout)

    def test_no_place(self):
        self.expect(SYSTEM, "cellput", "--create", self.path("none/store"), stdin=b"x")
        self.expect(SYSTEM, "cellput", "--create", self.folder, stdin=b"x")
        self.assertEqual(os.listdir(self.folder), [])


class Keys(PutTest):
    def test_made_and_read_again(self):
        key_file = self.path("key")
        self.create("--key-file", key_file, stdin=b"one")
        self.assertRegex(self.read("key"), rb"^[0-9a-f]{64}\n$")
        self.assertEqual(stat.S_IMODE(os.stat(key_file).st_mode), 0o600)
        key = self.read("key").decode().strip()
        self.assertEqual([s["key"] for s in self.info(self.store, "--key", key)["process_sync"]], ["good", "good"])
        self.expect(DONE, "cellput", "--key-file", key_file, self.store, stdin=b"two")
        self.assertEqual(self.read("key").decode().strip(), key)
        self.assertEqual([s["key"] for s in self.info(self.store, "--key", key)["process_sync"]], ["good", "good"])
        self.expect(DONE, "cellput", self.store, stdin=b"three")
        self.assertEqual([s["key"] for s in self.info(self.store, "--key", key)["process_sync"]], ["bad", "bad"])
        self.assertEqual(sorted(os.listdir(self.folder)), ["key", "store"])

    def test_given(self):
        self.create("--key-file", self.write("key", b"AB" * 32 + b"\n"), stdin=b"one")
        self.assertEqual(self.info(self.store, "--key", "ab" * 32)["process_sync"][0]["key"], "good")

    def test_two_stores_get_two_keys(self):
        for name in ("1", "2"):
            self.expect(DONE, "cellput", "--create", "--max-index", 1000, "--key-file", self.path("k" + name),
                        self.path("s" + name))
        self.assertNotEqual(self.read("k1"), self.read("k2"))

    def test_unusable(self):
        for bad in (b"", b"ab" * 31, b"ab" * 32 + b"\n\n", b"xy" * 32 + b"\n"):
            done = self.expect(SYSTEM, "cellput", "--create", "--key-file", self.write("key", bad), self.store)
            self.assertIn(b"key", done.stderr)
            self.assertEqual(os.listdir(self.folder), ["key"])
        self.expect(SYSTEM, "cellput", "--create", "--key-file", self.path("none/key"), self.store)
        self.expect(SYSTEM, "cellput", "--create", "--key-file", self.folder, self.store)
        self.assertEqual(os.listdir(self.folder), ["key"])

    def test_nothing_left_of_a_key_without_a_store(self):
        self.expect(SYSTEM, "cellput", "--key-file", self.path("key"), self.store)
        self.assertEqual(os.listdir(self.folder), [])


class Running(PutTest):
    """A cellput that is fed line by line: what it has printed is committed, and what is committed can be read."""

    def start(self, *args, stdout=subprocess.PIPE):
        self.key = self.path("key")
        self.process = subprocess.Popen(
            command("cellput", "--create", "--lines", "--max-index", MAX_INDEX, "--key-file", self.key, *args,
                    self.store),
            stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE)
        self.addCleanup(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def feed(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def rows(self, count):
        return lines_of(b"".join(self.process.stdout.readline() for _ in range(count)))

    def finish(self):
        self.process.stdin.close()
        rest = self.process.stdout.read()
        self.assertEqual((self.process.wait(60), self.process.stderr.read()), (DONE, b""))
        return lines_of(rest)

    def test_commit_every(self):
        self.start("--commit-every", 2)
        self.feed(b"a\nb\nc\n")
        self.assertEqual(self.rows(2), [(8, 1, "1"), (9, 1, "2")])
        info = self.info(self.store, "--key-file", self.key)
        self.assertEqual((info["state"], info["next_index"], info["root_index"]), ("unflushed", 8, None))
        self.assertEqual((info["process_sync"][0]["next_index"], info["process_sync"][0]["root_index"]), (10, 9))
        self.expect(SYSTEM, "cellget", self.store, 9)
        self.expect(SYSTEM, "cellget", self.store, "--root")
        self.assertEqual(self.value("--root", "--key-file", self.key), b"b")
        self.assertEqual(self.value(8, "--key-file", self.key), b"a")
        self.expect(SYSTEM, "cellget", self.store, 10, "--key-file", self.key)
        self.assertEqual(self.finish(), [(10, 1, "3")])
        self.assertEqual(self.value("--root"), b"c")
        self.assertEqual(self.info(self.store)["state"], "clean")

    def test_flush_every(self):
        self.start("--flush-every", 3)
        self.feed(b"a\nb\nc\nd\n")
        self.assertEqual(self.rows(3), [(8, 1, "1"), (9, 1, "2"), (10, 1, "3")])
        info = self.info(self.store)
        self.assertEqual((info["state"], info["next_index"], info["root_index"]), ("clean", 11, 10))
        self.assertEqual(self.value("--root"), b"c")
        self.assertEqual(self.finish(), [(11, 1, "4")])

    def test_checksums_that_fail_are_said(self):
        """What was flushed rots before the next flush, which sums its block anew: the values go in all the same."""
        self.start("--checksums", "--flush-every", 1)
        self.feed(b"one\n")
        self.rows(1)
        with open(self.store, "r+b") as store:
            store.seek(257)
            store.write(b"N")
        self.feed(b"two\n")
        self.assertEqual(self.rows(1), [(9, 3, "2")])
        self.process.stdin.close()
        self.assertEqual((self.process.stdout.read(), self.process.wait(60)), (b"", DONE))
        self.assertIn(b"not all that was put in has checksums", self.process.stderr.read())
        self.assertIn(b"offset 257", self.expect(CORRUPT, "cellsum", "check", self.store).stdout)

    def test_commit_and_flush_every(self):
        self.start("--commit-every", 1, "--flush-every", 2)
        seen = []
        for number in range(1, 7):
            self.feed(b"%d\n" % number)
            self.assertEqual(self.rows(1), [(7 + number, 1, str(number))])
            seen.append(self.info(self.store)["state"])
        self.assertEqual(seen, ["unflushed", "clean"] * 3)
        self.assertEqual(self.finish(), [])

    def test_nothing_is_printed_before_its_commit(self):
        self.start()
        self.feed(b"a\n" * 1000)
        self.process.stdin.close()
        self.assertEqual(len(self.rows(1000)), 1000)
        self.assertEqual(self.process.wait(60), DONE)

    def test_busy(self):
        self.start("--commit-every", 1)
        self.feed(b"a\n")
        self.rows(1)
        done = self.expect(BUSY, "cellput", self.store, stdin=b"x")
        self.assertIn(self.store.encode(), done.stderr)
        self.assertEqual(done.stdout, b"")
        self.assertEqual(self.finish(), [])

    def test_killed(self):
        """What was committed is kept by the next writer, who says so; after a power loss it is skipped."""
        self.start("--commit-every", 2)
        self.feed(b"a\nb\nc\n")
        self.rows(2)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        self.assertEqual(self.info(self.store)["state"], "unflushed")
        with open(self.store, "rb") as store, open(self.path("lost"), "wb") as lost:
            lost.write(store.read())  # a copy is no more than what a power loss leaves
        done = self.expect(DONE, "cellput", self.store, stdin=b"next")
        self.assertEqual(lines_of(done.stdout), [(10, 4, "-")])
        self.assertIn(b"all that it had committed is kept", done.stderr)
        done = self.expect(DONE, "cellput", self.path("lost"), stdin=b"next")
        self.assertEqual(lines_of(done.stdout), [(10, 4, "-")])
        self.assertIn(b"2 committed cells are skipped", done.stderr)
        self.assertEqual(self.info(self.store)["state"], "clean")

    def test_whole_header_while_it_writes(self):
        """celldump never takes a header that is being written for a broken one."""
        self.start("--commit-every", 1, "--flush-every", 50, stdout=subprocess.DEVNULL)
        for _ in range(100):
            self.feed(b"line\n" * 200)
            if os.path.exists(self.store):
                self.assertIn(self.info(self.store)["state"], ("clean", "unflushed"))
        self.process.stdin.close()
        self.assertEqual((self.process.wait(60), self.process.stderr.read()), (DONE, b""))
        self.assertEqual(self.info(self.store)["next_index"], 8 + 20000)


class Failures(PutTest):
    def test_input_that_cannot_be_read(self):
        first, last = self.write("first", b"first"), self.write("last", b"last")
        for bad in (self.path("none"), self.folder):
            store = self.path("store-%d" % len(os.listdir(self.folder)))
            done = self.expect(SYSTEM, "cellput", "--create", "--max-index", 1000, store, first, bad, last)
            self.assertEqual(lines_of(done.stdout), [(8, 5, first)])
            self.assertIn(bad.encode(), done.stderr)
            info = self.info(store)
            self.assertEqual((info["state"], info["next_index"], info["root_index"]), ("clean", 9, 8))
            self.assertEqual(self.expect(DONE, "cellget", store, 8).stdout, b"first")
        store = self.path("lines")
        done = self.expect(SYSTEM, "cellput", "--create", "--lines", "--max-index", 1000, store, first, self.folder)
        self.assertEqual(lines_of(done.stdout), [(8, 5, "1")])

    def test_store_is_full(self):
        """A value goes in whole or not at all."""
        names = [self.write("f%d" % i, bytes(1000)) for i in range(4)]
        done = self.expect(SYSTEM, "cellput", "--create", "--max-index", 8 + 3 * 32, self.store, *names)
        self.assertEqual([name for _, _, name in lines_of(done.stdout)], names[:3])
        self.assertIn(names[3].encode(), done.stderr)
        info = self.info(self.store)
        self.assertEqual((info["state"], info["next_index"], info["root_index"]), ("clean", 8 + 96, 8 + 95))

    def test_corrupt_store(self):
        for golden in goldens():
            if golden.name in ("config-bpc-3", "slot-d1d2", "size-odd", "size-0", "size-cut"):
                shutil.copyfile(golden.path, self.store)
                done = self.expect(CORRUPT, "cellput", self.store, stdin=b"x")
                self.assertIn(self.store.encode(), done.stderr)
                self.assertEqual(done.stdout, b"")
                self.assertEqual(self.read("store"), golden.bytes(), golden.name)

    def test_process_sync_broken(self):
        data = bytearray(Store().image())
        data[96] ^= 1
        data[128] ^= 1
        self.store = self.write("store", bytes(data))
        done = self.expect(DONE, "cellput", self.store, stdin=b"x")
        self.assertIn(b"process-sync", done.stderr)
        self.assertEqual(self.info(self.store)["state"], "clean")

    def test_file_too_large_for_the_limits(self):
        import resource

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

        small, large = self.write("small", b"small"), self.write("large", bytes(1 << 20))
        done = self.expect(SYSTEM, "cellput", "--create", "--max-index", MAX_INDEX, "--resize-step", "16K", self.store,
                           small, large, preexec_fn=limit)
        self.assertEqual(lines_of(done.stdout), [(8, 5, small)])
        self.assertEqual(self.value("--root"), b"small")

    def test_output_fails(self):
        """What the lines were to tell is in the store all the same."""
        with open("/dev/full", "wb") as full:
            done = self.expect(SYSTEM, "cellput", "--create", "--max-index", 1000, self.store, stdin=b"kept",
                               stdout=full)
        self.assertEqual(done.stderr.count(b"standard output"), 1)
        self.assertEqual(self.value("--root"), b"kept")
        self.assertEqual(self.info(self.store)["state"], "clean")

    def test_reader_of_the_output_goes_away(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        with os.fdopen(write_end, "wb") as gone:
            done = self.expect(SYSTEM, "cellput", "--create", "--lines", "--commit-every", 1, "--max-index", MAX_INDEX,
                               self.store, stdin=b"a\nb\n", stdout=gone)
        self.assertEqual(done.stderr, b"")
        self.assertEqual(self.info(self.store)["state"], "clean")

    def test_closed_descriptors(self):
        """No file of ours takes the place of standard output."""
        done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&- 2>&-'] +
                              command("cellput", "--create", "--max-index", 1000, self.store),
                              input=b"kept", check=False, timeout=60)
        self.assertEqual(done.returncode, SYSTEM)
        info = self.info(self.store)
        self.assertEqual((info["state"], bytes.fromhex(info["head_string"])), ("clean", b"CELLAR" + b" " * 14))
        self.assertEqual(self.value("--root"), b"kept")


class Progress(PutTest):
    def test_bar_after_two_seconds(self):
        """Only that it comes, on a terminal, once more than two seconds went by."""
        try:
            terminal, end = pty.openpty()
        except OSError:
            self.skipTest("no terminals here (/dev/pts)")
        process = subprocess.Popen(command("cellput", "--create", "--lines", "--max-index", 1000, self.store),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=end)
        os.close(end)
        process.stdin.write(b"before\n")
        process.stdin.flush()
        time.sleep(2.5)
        process.stdin.write(b"after\n")
        process.stdin.flush()
        shown = b""
        while b"values" not in shown and select.select([terminal], [], [], 60)[0]:
            shown += os.read(terminal, 1000)
        rows = process.communicate()[0]
        os.close(terminal)
        self.assertIn(b"B/s", shown)
        self.assertEqual((process.returncode, len(lines_of(rows))), (DONE, 2))


class CommandLine(PutTest):
    def test_common_options(self):
        self.check_common_options("cellput")

    def test_usage(self):
        for args in (("--create",), ("--lines",), ("--create", "--head", "x" * 21, self.store),
                     ("--head", "x", self.store), ("--cell-bytes", 32, self.store), ("--max-index", 9, self.store),
                     ("--version-number", 1, self.store), ("--checksums", self.store),
                     ("--create", "--max-index", 8, self.store),
                     ("--create", "--cell-bytes", 4, "--max-index", 64, self.store)):
            self.assert_usage("cellput", *args)
        numbers = ("", "x", "-1", "+1", " 1", "1 ", "0x10", "1.5", "1e3", "99999999999999999999")
        ranges = {"--cell-bytes": ("3", "65536", "0", "32K"), "--max-index": ("0", "4294967296"),
                  "--version-number": ("4294967296",), "--commit-every": ("0",), "--flush-every": ("0",),
                  "--resize-step": ("0", "1T", "1k", "1KB", "K", "1 K", "17179869184G", "17179869185G", "8589934592G",
                                    "M1")}
        for option, outside in ranges.items():
            for number in numbers + outside:
                done = self.assert_usage("cellput", "--create", option, number, self.store)
                self.assertIn(option.encode(), done.stderr)
        self.assertEqual(os.listdir(self.folder), [])

    def test_resize_steps(self):
        for step in ("1", "4096", "4K", "1M"):
            store = self.path("store" + step)
            self.expect(DONE, "cellput", "--create", "--max-index", MAX_INDEX, "--resize-step", step, store,
                        stdin=content(1, 100000))
            self.assertEqual(self.expect(DONE, "cellget", store, "--root").stdout, content(1, 100000))


if __name__ == "__main__":
    main()
