# make demo   set everything up and run the main job on a small model
# make test   set everything up and run all suites
PYTHON ?= python3
PIP_INSTALL = install -q --disable-pip-version-check -c export/constraints.txt
# Ray takes a quarter of a gigabyte: an environment and a command of its own.
RAY = plugins/decodekit-ray
PLUGINS = $(filter-out $(RAY),$(wildcard plugins/decodekit-*))
TESTED = $(patsubst %-server,%-server[test],$(addprefix ./,$(PLUGINS)))
SOURCES = $(shell git ls-files decodekit plugins export/pyproject.toml export/constraints.txt pyproject.toml)

# Everything: runtime, training and export, plugins, tools. Editable.
.venv/ready: pyproject.toml export/pyproject.toml export/constraints.txt $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv .venv
	.venv/bin/pip $(PIP_INSTALL) -e '.[cpu,test,dev]' -e 'export[data,lora,plot,tensorboard]' $(addprefix -e ,$(TESTED))
	touch $@

# What an application has: the runtime and plugins as wheels, no torch.
.venv-runtime/ready: $(SOURCES)
	$(PYTHON) -m venv .venv-runtime
	.venv-runtime/bin/pip $(PIP_INSTALL) '.[cpu,test]' $(TESTED)
	.venv-runtime/bin/pip $(PIP_INSTALL) --force-reinstall --no-deps . $(addprefix ./,$(PLUGINS))
	touch $@

.PHONY: demo
demo: .venv/ready
	.venv/bin/python docs/examples/demo.py

.PHONY: test
test: test-runtime lint test-export

.PHONY: test-runtime
test-runtime: .venv-runtime/ready
	.venv-runtime/bin/pytest tests plugins

.PHONY: test-export
test-export: .venv/ready
	.venv/bin/pytest export

.PHONY: lint
lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.PHONY: clean
clean:
	rm -rf .venv .venv-runtime build dist

# make bench         measure decodekit beside its peers and write docs/benchmarks.md; about half an hour
# make bench-quick   only prove that the suite runs
# Both take BENCH='--only stream-int4 --rounds 3' and the like.
MODELS = build/bench
SHAPES = smol loop midv bigv
BENCH_MODELS = $(SHAPES:%=$(MODELS)/%/bundle) \
  $(addprefix $(MODELS)/smol/,int4-32 int4-64 genai-fp32 genai-int4 genai-int4-64 gguf optimum)
BENCH_PYTHON = .venv-bench/bin/python

.venv-bench/ready: pyproject.toml export/pyproject.toml export/constraints.txt tests/benchmarks/peers.txt
	$(PYTHON) -m venv .venv-bench
	CMAKE_BUILD_PARALLEL_LEVEL=2 nice .venv-bench/bin/pip $(PIP_INSTALL) -e '.[cpu]' -e export \
	  -r tests/benchmarks/peers.txt
	touch $@

.venv-optimum/ready: tests/benchmarks/peers-optimum.txt
	$(PYTHON) -m venv .venv-optimum
	.venv-optimum/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

.venv-genai/ready: export/tests/engines/genai.txt
	$(PYTHON) -m venv .venv-genai
	.venv-genai/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

# make test-engines   optimum's exporter and the model builder, each in its environment, through the same gate
.PHONY: test-engines
test-engines: .venv/ready .venv-optimum/ready .venv-genai/ready
	DECODEKIT_OPTIMUM_PYTHON=$(CURDIR)/.venv-optimum/bin/python \
	  DECODEKIT_GENAI_PYTHON=$(CURDIR)/.venv-genai/bin/python .venv/bin/pytest export/tests/engines

.PHONY: bench bench-quick bench-models
bench: bench-models
	$(BENCH_PYTHON) tests/benchmarks/bench.py $(BENCH)

bench-quick: bench-models
	$(BENCH_PYTHON) tests/benchmarks/bench.py --quick $(BENCH)

# One checkpoint, written as every engine reads it. A folder that is there is whole.
bench-models: export ORT_DISABLE_TELEMETRY = 1
bench-models: export HF_HUB_OFFLINE = 1
bench-models: $(BENCH_MODELS)
.PRECIOUS: $(MODELS)/%/checkpoint

$(MODELS)/%/checkpoint: tests/benchmarks/checkpoint.py | .venv-bench/ready
	rm -rf $@ $@.part
	$(BENCH_PYTHON) $< $* $@.part
	mv $@.part $@

$(MODELS)/%/bundle: $(MODELS)/%/checkpoint
	rm -rf $@
	.venv-bench/bin/decodekit export $< --out $@ --name $*

$(MODELS)/smol/int4-%: $(MODELS)/smol/checkpoint
	rm -rf $@
	.venv-bench/bin/decodekit export $< --out $@ --name smol --quantize int4 --block $* --prompts 4

$(MODELS)/%/gguf: $(MODELS)/%/checkpoint tests/benchmarks/gguf_file.py
	rm -rf $@ $@.part
	$(BENCH_PYTHON) tests/benchmarks/gguf_file.py $* $< $@.part 2> $@.log
	mv $@.part $@

$(MODELS)/%/optimum: $(MODELS)/%/checkpoint | .venv-optimum/ready
	rm -rf $@ $@.part
	.venv-optimum/bin/optimum-cli export onnx --model $< --task text-generation-with-past $@.part 2> $@.log
	mv $@.part $@

$(MODELS)/smol/genai-int4-%: $(MODELS)/smol/checkpoint
	rm -rf $@ $@.part
	$(BENCH_PYTHON) -m onnxruntime_genai.models.builder -i $< -o $@.part -p int4 -e cpu -c $(MODELS)/cache \
	  --extra_options int4_block_size=$* > $@.log 2>&1
	mv $@.part $@

$(MODELS)/smol/genai-%: $(MODELS)/smol/checkpoint
	rm -rf $@ $@.part
	$(BENCH_PYTHON) -m onnxruntime_genai.models.builder -i $< -o $@.part -p $* -e cpu -c $(MODELS)/cache \
	  > $@.log 2>&1
	mv $@.part $@

# make test-browser   the pages in a headless Chromium; DECODEKIT_BROWSER names it where it is not `chromium`
.PHONY: test-browser
test-browser: .venv/ready
	.venv/bin/pip $(PIP_INSTALL) -r tests/browser/requirements.txt
	DECODEKIT_BROWSER=$(or $(DECODEKIT_BROWSER),chromium) .venv/bin/pytest tests/browser

# make figures-browser   the pictures of docs/playground.md, from what test-browser left in build/browser
.PHONY: figures-browser
figures-browser:
	cd build/browser && cp playground-answer-light.png playground-compare-dark.png playground-picker-light.png \
	  playground-answer-narrow.png ../../docs/figures

# make soak         every small case of the exactness tests; four minutes
# make statistics   a million draws from each strategy; five minutes
# make mutants      plant bugs, one by one, and see that the tests find them; six minutes
.PHONY: soak statistics mutants
soak: .venv/ready
	DECODEKIT_SOAK=1 .venv/bin/pytest tests/exactness
	DECODEKIT_SOAK=1 .venv/bin/pytest export/tests/test_order.py export/tests/test_examples.py

statistics: .venv/ready
	.venv/bin/python tests/statistics/draws.py

mutants: .venv/ready
	.venv/bin/python tests/mutants/mutants.py

# make gpu-check         all that a device must prove; DEVICE=cuda:1, DEVICE=cpu to try the command,
#                        CHECK='--bundle DIR --soak 600' and the like; models take the longest to make
# make graph-agreement   200 random chains, in graphs and on the host; five minutes
# make bench-sampling    a step of sampling in a graph and on the host
.PHONY: gpu-check graph-agreement bench-sampling
gpu-check: .venv/ready
	PYTHONPATH=tests .venv/bin/python -m devices.check --device $(or $(DEVICE),cuda) $(CHECK)

graph-agreement: .venv/ready
	.venv/bin/python tests/devices/agreement.py

bench-sampling: .venv/ready
	.venv/bin/python tests/devices/timing.py --device $(or $(DEVICE),cpu)

# make bench-data   read training data: rows a second, bytes of memory a row; MODEL=a checkpoint
.PHONY: bench-data
bench-data: .venv/ready
	.venv/bin/python tests/benchmarks/data_memory.py $(MODEL)

# make server-fuzz         10,000 requests by schemathesis against the server's interface
# make server-disconnects  200 clients that leave at random moments
# make server-load         open-loop load with nonces, alone and among hostile requests, then 10,000 in a row;
#                          bars with verdicts; seven minutes
# make server-overhead     what the server costs over the SDK, in turns, with bars, until they are decided: on tagline,
#                          and on make bench's model where it is there; BUNDLE='DIR ...'; two to eight minutes
# make bench-server        the server beside others, with the same weights, into docs/benchmarks.md; a quarter of an hour
# make bench-server-quick  only prove that they run; both take BENCH='--rounds 3' and the like
SERVER = plugins/decodekit-server
BUNDLE ?= tagline $(wildcard $(MODELS)/smol/bundle)
.PHONY: server-fuzz server-disconnects server-load server-overhead bench-server bench-server-quick
server-fuzz: .venv/ready
	.venv/bin/pip $(PIP_INSTALL) -e '$(SERVER)[check]'
	.venv/bin/python $(SERVER)/checks/fuzz.py --examples 800

server-disconnects: .venv/ready
	DECODEKIT_DISCONNECTS=200 .venv/bin/pytest -s $(SERVER)/tests/test_server_life.py -k frees_the_place

server-load: .venv/ready
	.venv/bin/python $(SERVER)/checks/load.py

server-overhead: .venv/ready
	.venv/bin/python $(SERVER)/checks/overhead.py $(BUNDLE)

.venv-bench/servers: .venv-bench/ready $(SERVER)/pyproject.toml $(SERVER)/checks/peers.txt
	.venv-bench/bin/pip $(PIP_INSTALL) -e $(SERVER) -r $(SERVER)/checks/peers.txt
	touch $@

bench-server bench-server-quick: export ORT_DISABLE_TELEMETRY = 1
bench-server bench-server-quick: export HF_HUB_OFFLINE = 1
bench-server bench-server-quick: .venv-bench/servers $(addprefix $(MODELS)/smol/,checkpoint bundle gguf)
bench-server:
	$(BENCH_PYTHON) $(SERVER)/checks/peers.py $(BENCH)

bench-server-quick:
	$(BENCH_PYTHON) $(SERVER)/checks/peers.py --quick $(BENCH)

# make crash-batch   end jobs at every call that reaches the disk and at 500 random moments; ten minutes
# make batch-scale   five million rows through a model that costs nothing; five minutes
# make bench-batch   20,000 prompts by a job and by the engine alone; eight minutes
.PHONY: crash-batch batch-scale bench-batch
crash-batch: .venv/ready
	.venv/bin/python tests/crashes.py calls
	.venv/bin/python tests/crashes.py moments --kills 500

batch-scale: .venv/ready
	.venv/bin/python tests/benchmarks/batch_scale.py

bench-batch: .venv/ready
	.venv/bin/python tests/benchmarks/batch_throughput.py

# make test-ray      batches and the server on a Ray cluster of this machine; four minutes
# make bench-ray     what Ray costs a row and a request; three minutes
.venv-ray/ready: $(SOURCES)
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip $(PIP_INSTALL) '.[cpu,test]' ./$(SERVER) './$(RAY)[serve,test]'
	.venv-ray/bin/pip $(PIP_INSTALL) --force-reinstall --no-deps . ./$(SERVER) ./$(RAY)
	touch $@

.PHONY: test-ray bench-ray
test-ray: .venv-ray/ready
	.venv-ray/bin/pytest $(RAY)

bench-ray: .venv-ray/ready
	.venv-ray/bin/python $(RAY)/benchmarks/batch.py
	.venv-ray/bin/python $(RAY)/benchmarks/serve.py

# make architectures   try every causal language model of transformers and write docs/architectures.md;
#                      half an hour; goes on where it was stopped (build/architectures holds what was tried)
.PHONY: architectures
architectures: .venv/ready
	.venv/bin/decodekit architectures --results build/architectures --page docs/architectures.md

# make crash            kill a fine-tuning run at 200 points and go on with it; ten minutes
# make bench-training   trained tokens a second and memory, beside TRL; writes docs/finetune.md; half an hour
.PHONY: crash bench-training
crash: .venv/ready
	.venv/bin/python export/tests/crash/crash.py --points 200

bench-training: .venv-training/ready
	.venv-training/bin/python export/benchmarks/training.py

.venv-training/ready: pyproject.toml export/pyproject.toml export/constraints.txt export/benchmarks/peers-training.txt
	$(PYTHON) -m venv .venv-training
	.venv-training/bin/pip $(PIP_INSTALL) -e '.[cpu]' -e export -r export/benchmarks/peers-training.txt
	touch $@
