// A network as after training: batch norm has statistics that matter, and biases are not 0.
#pragma once
#include "model/colornet.hpp"
#include "tensor/random.hpp"

namespace lumachrome {

inline ColorNet trained_network(const Spec& spec) {
    ColorNet net(spec, 3);
    uint32_t stream = 0;
    net.visit([&](const std::string& name, Parameter& p) {
        Random random(5, Random::Purpose::test, stream++);
        const bool positive = name.ends_with("running_var") || name.ends_with("norm.weight");
        if (name.find(".norm.") != name.npos || name.ends_with("bias"))
            for (int64_t i = 0; i < p.value.numel(); ++i)
                p.value.data<float>()[i] = static_cast<float>(positive ? random.uniform(0.5, 1.5)
                                                                       : random.uniform(-0.3, 0.3));
    });
    return net;
}

}  // namespace lumachrome
