// A "CUDA" device whose memory is the host's and whose kernels are the CPU's.
//
// Tensors are on `cuda:0` in every respect that PyTorch checks: `is_cuda`, autograd, the refusal
// to mix devices, copies from and to the host. Nothing is asynchronous, and nothing is fast.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/Resize.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>

using at::Tensor;

namespace {

const c10::Device THE_DEVICE(c10::DeviceType::CUDA, 0);

// ---------------------------------------------------------------------------------- memory

struct Memory final : c10::Allocator {
  static void release(void* pointer) { free(pointer); }

  c10::DataPtr allocate(size_t bytes) override {
    void* pointer = nullptr;
    int failed = posix_memalign(&pointer, 64, bytes ? bytes : 1);
    TORCH_CHECK(!failed, "CUDA out of memory (simulated)");
    return {pointer, pointer, &release, THE_DEVICE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    memcpy(to, from, bytes);
  }
};
Memory memory;

// The same memory seen as a tensor of the other side; `keep` outlives it.
Tensor on_host(const Tensor& t) {
  if (t.device().is_cpu()) return t;
  Tensor keep = t.detach();
  auto options = t.options().device(at::kCPU).requires_grad(false);
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), [keep](void*) {}, options);
}

Tensor on_device(const Tensor& t) {
  if (!t.defined() || t.is_cuda()) return t;
  Tensor keep = t;
  return at::for_blob(t.data_ptr(), t.sizes())
      .strides(t.strides())
      .deleter([keep](void*) {})
      .options(t.options().device(THE_DEVICE))
      .target_device(THE_DEVICE)
      .make_tensor();
}

// ---------------------------------------------------------- what PyTorch asks a device for

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::Stream stream() const { return c10::Stream(c10::Stream::DEFAULT, THE_DEVICE); }

  c10::DeviceType type() const override { return c10::DeviceType::CUDA; }
  c10::Device exchangeDevice(c10::Device) const override { return THE_DEVICE; }
  c10::Device getDevice() const override { return THE_DEVICE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag)
      const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
};

// ------------------------------------------------------- operations that need the device's

c10::ScalarType type_of(std::optional<at::ScalarType> asked) { return c10::dtype_or_default(asked); }

Tensor empty(
    c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(
      C10_AS_INTARRAYREF_SLOW(size), &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
      type_of(dtype), format);
}

Tensor empty_strided(
    c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &memory,
      c10::DispatchKeySet(c10::DispatchKey::CUDA), type_of(dtype));
}

Tensor& copy_(Tensor& self, const Tensor& source, bool) {
  c10::impl::ExcludeDispatchKeyGuard without(c10::autograd_dispatch_keyset);
  if (self.numel()) {
    Tensor here = on_host(self);
    here.copy_(on_host(source));
  }
  return self;
}

Tensor copy_from(const Tensor& self, const Tensor& to, bool) {
  Tensor target = to;
  copy_(target, self, false);
  return to;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& to) {
  return copy_from(self, to, false);
}

at::Scalar item(const Tensor& self) { return on_host(self).item(); }

const Tensor& resize_(
    const Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat>) {
  auto sides = C10_AS_INTARRAYREF_SLOW(size);
  auto* tensor = self.unsafeGetTensorImpl();
  const auto& storage = tensor->storage();
  size_t needed =
      (c10::multiply_integers(sides) + tensor->storage_offset()) * self.dtype().itemsize();
  if (storage.nbytes() < needed) {
    auto larger = memory.allocate(needed);
    memcpy(larger.get(), storage.data(), storage.nbytes());
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(larger));
    storage.unsafeGetStorageImpl()->set_nbytes(needed);
  }
  tensor->set_sizes_contiguous(sides);
  return self;
}

Tensor& set_(
    Tensor& self, c10::Storage source, c10::SymInt offset, c10::SymIntArrayRef size,
    c10::SymIntArrayRef stride) {
  auto* tensor = self.unsafeGetTensorImpl();
  tensor->set_storage_keep_dtype(std::move(source));
  tensor->set_storage_offset(offset.expect_int());
  tensor->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
  return self;
}

Tensor view(const Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

Tensor as_strided(
    const Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
    std::optional<c10::SymInt> offset) {
  std::optional<int64_t> first;
  if (offset) first = offset->expect_int();
  return at::native::as_strided_tensorimpl(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), first);
}

Tensor reshape_alias(const Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

// ------------------------------------------------- all others: the CPU's kernel on the memory

bool written(const c10::FunctionSchema& schema, size_t argument) {
  const auto* alias = schema.arguments()[argument].alias_info();
  return alias && alias->isWrite();
}

bool is_tensor(const c10::IValue& value) { return value.isTensor() && value.toTensor().defined(); }

// Takes the arguments of a call over to the host, and refuses tensors of both sides.
struct Call {
  const c10::FunctionSchema& schema;
  int of_device = 0, of_host = 0;

  Tensor taken(const Tensor& t) {
    if (!t.defined()) return t;
    if (t.is_cuda()) ++of_device;
    else if (t.dim() > 0) ++of_host;  // a host's number may go anywhere
    return on_host(t);
  }

  c10::IValue taken(const c10::IValue& value, size_t argument) {
    if (written(schema, argument) && is_tensor(value) && value.toTensor().numel() == 0) {
      ++of_device;  // an `out=` without memory of its own yet
      return at::empty(value.toTensor().sizes(), value.toTensor().options().device(at::kCPU));
    }
    if (value.isTensor()) return taken(value.toTensor());
    if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& t : value.toTensorList()) list.push_back(taken(t));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (std::optional<Tensor> t : value.toOptionalTensorList())
        list.push_back(t ? std::optional<Tensor>(taken(*t)) : t);
      return list;
    }
    if (value.isList() && !value.toListRef().empty() && value.toListRef()[0].isTensorList()) {
      c10::impl::GenericList lists(c10::ListType::ofTensors());
      for (const c10::IValue& list : value.toListRef()) lists.push_back(taken(list, argument));
      return lists;
    }
    if (value.isDevice()) return c10::Device(c10::DeviceType::CPU);
    return value;
  }

  void check() const {
    const auto& name = schema.name();
    bool indices_may_be_of_the_host = name == "aten::index" || name == "aten::index_put_" ||
        name == "aten::_index_put_impl_";
    TORCH_CHECK(
        !(of_device && of_host) || indices_may_be_of_the_host,
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 "
        "and cpu! (simulated, in ", name, ")");
  }
};

// The tensor that a call was given to write and gives back, if the result is one.
const c10::IValue* given_back(
    const c10::FunctionSchema& schema, size_t result, const std::vector<c10::IValue>& arguments) {
  const auto* alias = schema.returns()[result].alias_info();
  if (!alias || !alias->isWrite()) return nullptr;
  for (size_t k = 0; k < arguments.size(); ++k) {
    if (written(schema, k) && arguments[k].isTensor() &&
        schema.arguments()[k].alias_info()->beforeSets() == alias->beforeSets())
      return &arguments[k];
  }
  return nullptr;
}

void by_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  c10::impl::ExcludeDispatchKeyGuard without(c10::autograd_dispatch_keyset);
  const auto& schema = op.schema();
  const size_t count = schema.arguments().size(), results = schema.returns().size();
  std::vector<c10::IValue> arguments(stack->end() - count, stack->end());
  stack->erase(stack->end() - count, stack->end());

  Call call{schema};
  std::vector<c10::IValue> taken;
  for (size_t k = 0; k < count; ++k) taken.push_back(call.taken(arguments[k], k));
  call.check();
  std::vector<std::vector<int64_t>> sides(count);
  for (size_t k = 0; k < count; ++k) {
    if (is_tensor(taken[k])) sides[k] = taken[k].toTensor().sizes().vec();
    stack->push_back(taken[k]);
  }
  op.callBoxed(stack);

  for (size_t k = 0; k < count; ++k) {  // an `out=` that the CPU's kernel has resized
    if (!written(schema, k) || !is_tensor(arguments[k]) || !arguments[k].toTensor().is_cuda())
      continue;
    Tensor here = taken[k].toTensor(), there = arguments[k].toTensor();
    if (here.sizes().vec() != sides[k]) {
      there.resize_(here.sizes());
      copy_(there, here, false);
    }
  }
  std::vector<c10::IValue> found(stack->end() - results, stack->end());
  stack->erase(stack->end() - results, stack->end());
  for (size_t k = 0; k < results; ++k) {
    if (found[k].isTensor()) {
      const auto* given = given_back(schema, k, arguments);
      stack->push_back(given ? *given : c10::IValue(on_device(found[k].toTensor())));
    } else if (found[k].isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& t : found[k].toTensorList()) list.push_back(on_device(t));
      stack->emplace_back(list);
    } else {
      stack->push_back(found[k]);
    }
  }
}

}  // namespace

namespace at {

struct SimulatedHooks final : CUDAHooksInterface {
  explicit SimulatedHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasCuDNN() const override { return false; }
  bool compiledWithCuDNN() const override { return false; }
  bool compiledWithMIOpen() const override { return false; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  bool isPinnedPtr(const void*) const override { return false; }
  Allocator* getPinnedMemoryAllocator() const override { return at::getCPUAllocator(); }
  Device getDeviceFromPtr(void*) const override { return THE_DEVICE; }
  const Generator& getDefaultGenerator(DeviceIndex = -1) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  void deviceSynchronize(DeviceIndex) const override {}
};

static c10::Registerer<std::string, std::unique_ptr<CUDAHooksInterface>, CUDAHooksArgs> hooks(
    "CUDAHooks", CUDAHooksRegistry(),
    [](CUDAHooksArgs args) -> std::unique_ptr<CUDAHooksInterface> {
      return std::make_unique<SimulatedHooks>(args);
    });

}  // namespace at

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

TORCH_LIBRARY_IMPL(_, CUDA, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &item);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_);
  m.impl("view", &view);
  m.impl("as_strided", &as_strided);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("unfold", &at::native::unfold);
  // torch has kernels of these for all devices, which would look for one of their own inside
  m.impl("convolution", torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>());
  m.impl("convolution_backward", torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>());
}

// ---------------------------------------------------------------- processes that train together

namespace {

struct Timer final : c10d::Timer {  // the reducer of DistributedDataParallel wants one
  explicit Timer(c10::Device) {}
  std::optional<int64_t> measureDifference(Event start, Event end) override {
    return getTimeRef(end) - getTimeRef(start);
  }
};

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

// Gloo, which knows no GPU in a CPU build of torch, takes the same memory for the host's.
const bool shared = [] {
  Silent silent;  // torch says that it has kernels of these already
  c10::WarningUtils::WarningHandlerGuard guard(&silent);
  static torch::Library library(
      torch::Library::IMPL, "c10d", c10::DispatchKey::CUDA, __FILE__, __LINE__);
  for (const char* name : {"allreduce_", "broadcast_", "allgather_", "_allgather_base_", "barrier"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>());
  return true;
}();

}  // namespace

namespace c10d {
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kCUDA, ::Timer)
}  // namespace c10d
