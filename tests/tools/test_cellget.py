"""cellget: the values' bytes, all of them or none."""
import os
import shutil
import signal
import subprocess
import time

from toolset import (CORRUPT, DONE, MAX_INDEX, SYSTEM, Store, ToolTest, command, content, goldens, main, run,
                     splitmix_bytes)


class Values(ToolTest):
    def setUp(self):
        super().setUp()
        self.made = Store()
        self.values = {self.made.value(content(size, size)): content(size, size)
                       for size in (0, 1, 26, 27, 65535, 65536, 131070, 1000000)}
        self.plain = self.made.cell(b"\xff" * 32)
        self.root = min(self.values) + 1
        self.store = self.write("store", self.made.image(root=self.root))

    def test_one(self):
        for index, value in self.values.items():
            for path in ((), ("--pages",)):
                done = self.expect(DONE, "cellget", self.store, index, *path)
                self.assertEqual((done.stdout, done.stderr), (value, b""))

    def test_several(self):
        order = sorted(self.values, reverse=True) + sorted(self.values)
        done = self.expect(DONE, "cellget", self.store, *order)
        self.assertEqual(done.stdout, b"".join(self.values[index] for index in order))

    def test_root(self):
        self.assertEqual(self.expect(DONE, "cellget", self.store, "--root").stdout, self.values[self.root])
        no_root = self.write("no root", self.made.image())
        self.assertIn(b"root", self.expect(SYSTEM, "cellget", no_root, "--root").stderr)

    def test_no_value_is_an_error_before_anything_is_written(self):
        good = max(self.values)
        for bad, code in ((0, SYSTEM), (7, SYSTEM), (self.made.next(), SYSTEM), (4294967295, SYSTEM),
                          (self.plain, CORRUPT)):
            for args in ((bad,), (good, bad), (bad, good), (good, bad, "--pages")):
                done = self.expect(code, "cellget", self.store, *args)
                self.assertEqual(done.stdout, b"")
                self.assertIn(self.store.encode(), done.stderr)
                if code == SYSTEM:
                    self.assertIn(b"from 8 to %d" % (self.made.next() - 1), done.stderr)
                else:
                    self.assertIn(b"offset", done.stderr)
        empty = self.write("empty", Store().image())
        self.expect(SYSTEM, "cellget", empty, 8)

    def test_broken_chains(self):
        for size, cdr in ((200, 0), (65535, 0), (10, 8), (10, 9), (10, 10), (10, (1 << 32) - 1)):
            store = Store()
            index = store.chunk(b"0123456789", size=size, cdr=cdr)
            store.cell(b"c")
            done = self.expect(CORRUPT, "cellget", self.write("s", store.image()), index)
            self.assertEqual(done.stdout, b"")

    def test_keys(self):
        key, other = self.write("key", self.made.key.hex().encode() + b"\n"), self.write("other", b"00" * 32 + b"\n")
        last = max(self.values)
        ahead = self.write("ahead", self.made.image(disk=(9, 8), process=(self.made.next(), last)))
        self.expect(SYSTEM, "cellget", ahead, last)
        self.assertEqual(self.expect(DONE, "cellget", ahead, last, "--key-file", key).stdout, self.values[last])
        self.assertEqual(self.expect(DONE, "cellget", "--key-file", key, ahead, "--root").stdout, self.values[last])
        self.assertEqual(self.expect(DONE, "cellget", ahead, "--root").stdout, b"")
        for bad in (other, self.path("none"), self.write("bad", b"no key\n")):
            done = self.expect(SYSTEM, "cellget", ahead, last, "--key-file", bad)
            self.assertEqual(done.stdout, b"")
            self.assertTrue(done.stderr)

    def test_nothing_is_changed(self):
        os.chmod(self.store, 0o444)
        before = self.read("store"), os.stat(self.store).st_mtime_ns
        self.expect(DONE, "cellget", self.store, *self.values)
        self.assertEqual((self.read("store"), os.stat(self.store).st_mtime_ns), before)

    def test_files_that_cannot_be_opened(self):
        os.mkfifo(self.path("fifo"))
        for path in (self.path("none"), self.folder, self.path("fifo"), "/dev/null"):
            done = self.expect(SYSTEM, "cellget", path, 8, timeout=60)
            self.assertIn(path.encode(), done.stderr)


class Golden(ToolTest):
    def test_values_of_the_original(self):
        for golden in goldens():
            if not golden.name.endswith("-clean"):
                continue
            written = [op for op in golden.ops() if op["op"] == "chunk_write" and "ok" in op["result"]]
            self.assertTrue(written)
            indices = [op["result"]["ok"]["last_index"] for op in written]
            expected = b"".join(splitmix_bytes(op["seed"], op["len"]) for op in written)
            self.assertEqual(self.expect(DONE, "cellget", golden.path, *indices).stdout, expected, golden.path)

    def test_corrupt(self):
        for golden in goldens():
            if golden.name in ("config-bpc-3", "config-maxindex-100", "slot-d1d2", "size-0", "size-odd", "size-cut"):
                path = self.path("s")
                shutil.copyfile(golden.path, path)
                done = self.expect(CORRUPT, "cellget", path, 8)
                self.assertEqual(done.stdout, b"")
                self.assertIn(path.encode(), done.stderr)


class Output(ToolTest):
    def setUp(self):
        super().setUp()
        store = Store()
        self.value = content(1, 4000000)
        self.index = store.value(self.value)
        self.store = self.write("store", store.image())

    def test_reader_goes_away(self):
        """Quietly, whether SIGPIPE ends us or a write fails."""
        for ignored in (False, True):
            process = subprocess.Popen(command("cellget", self.store, self.index), stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, restore_signals=not ignored)
            self.assertEqual(process.stdout.read(10), self.value[:10])
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
            process.stderr.close()
            self.assertEqual(process.wait(60), SYSTEM if ignored else -signal.SIGPIPE)

    def test_full(self):
        with open("/dev/full", "wb") as full:
            done = self.expect(SYSTEM, "cellget", self.store, self.index, stdout=full)
        self.assertIn(b"standard output", done.stderr)

    def test_non_blocking_pipe(self):
        """A pipe that takes part of it at a time, and sometimes nothing."""
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        process = subprocess.Popen(command("cellget", self.store, self.index), stdout=write_end)
        os.close(write_end)
        got = bytearray()
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            while piece := pipe.read(50000):
                got += piece
        self.assertEqual(process.wait(60), DONE)
        self.assertEqual(bytes(got), self.value)

    def test_slow_reader(self):
        process = subprocess.Popen(command("cellget", self.store, self.index), stdout=subprocess.PIPE)
        time.sleep(0.1)
        got = process.stdout.read()
        process.stdout.close()
        self.assertEqual((process.wait(60), got), (DONE, self.value))


class Verify(ToolTest):
    """A store with checksums, of three values."""

    def setUp(self):
        super().setUp()
        self.store = self.path("store")
        self.sums = self.store + ".cellar-sums"
        self.values = [content(i, size) for i, size in enumerate((10, 300000, 70000))]
        files = [self.write("value%d" % i, value) for i, value in enumerate(self.values)]
        done = self.expect(DONE, "cellput", "--create", "--checksums", "--max-index", MAX_INDEX, self.store, *files)
        self.indices = [int(line.split()[0]) for line in done.stdout.splitlines()]

    def flip(self, offset):
        data = bytearray(self.read("store"))
        data[offset] ^= 1
        self.write("store", data)

    def test_whole(self):
        for path in ((), ("--pages",)):
            done = self.expect(DONE, "cellget", "--verify", "--verbose", *path, self.store, *self.indices)
            self.assertEqual(done.stdout, b"".join(self.values))
            self.assertIn(b"through pages", done.stderr)

    def test_rotten(self):
        """What has rotted is not shown; the rest is, and so is all of it without the option."""
        self.flip(100000)
        first, large, last = self.indices
        done = self.expect(CORRUPT, "cellget", "--verify", self.store, large)
        self.assertEqual(done.stdout, b"")
        self.assertIn(self.store.encode(), done.stderr)
        rest = self.expect(DONE, "cellget", "--verify", self.store, first, last)
        self.assertEqual(rest.stdout, self.values[0] + self.values[2])
        self.assertNotEqual(self.expect(DONE, "cellget", self.store, large).stdout, self.values[1])
        self.assertEqual(self.expect(CORRUPT, "cellget", "--verify", self.store, first, large, last).stdout,
                         self.values[0])

    def test_rotten_root(self):
        self.flip(os.path.getsize(self.store) - 1)
        done = self.expect(CORRUPT, "cellget", "--verify", self.store, "--root")
        self.assertEqual(done.stdout, b"")

    def test_without_checksums(self):
        os.unlink(self.sums)
        done = self.expect(SYSTEM, "cellget", "--verify", self.store, "--root")
        self.assertIn(b"checksum", done.stderr)
        plain = self.write("plain", Store().image())
        done = self.expect(SYSTEM, "cellget", "--verify", plain, 8)
        self.assertIn(b"without checksums", done.stderr)


class CommandLine(ToolTest):
    def test_common_options(self):
        self.check_common_options("cellget")

    def test_usage(self):
        store = Store()
        index = store.value(b"x")
        path = self.write("s", store.image(root=index))
        for args in ((path,), ("--root",), (path, "--root", index), (path, "--key-file")):
            self.assert_usage("cellget", *args)
        for number in ("", "x", "-1", "+8", " 8", "8 ", "0x8", "8.0", "4294967296", "99999999999999999999"):
            self.assert_usage("cellget", path, number)
            self.assert_usage("cellget", path, index, number)


class WithoutWindow(ToolTest):
    def test_little_address_space(self):
        """Where the addresses do not suffice for the whole window the values are the same."""
        import resource
        store = Store(max_index=4294967039)
        index = store.value(content(1, 300000))
        path = self.write("s", store.image())
        limit = 1 << 28

        def limited():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        if run("cellget", "--version", preexec_fn=limited).returncode != DONE:
            self.skipTest("this build needs more addresses than that")
        self.assertEqual(self.expect(DONE, "cellget", path, index, preexec_fn=limited).stdout, content(1, 300000))


if __name__ == "__main__":
    main()
