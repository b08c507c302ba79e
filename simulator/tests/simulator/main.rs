//! The simulator over TLS, as devices and scripts use it.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod change;
#[cfg(test)]
mod csr;
#[cfg(test)]
mod curl;
#[cfg(test)]
mod curl_x509;
#[cfg(test)]
mod device;
#[cfg(test)]
mod enrollments;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod issuance;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod program;
#[cfg(test)]
mod refusals;
