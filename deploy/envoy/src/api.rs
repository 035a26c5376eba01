//! The calls that there are, as the descriptor set has them.

use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage, MethodDescriptor, ServiceDescriptor, Value};

/// The packages of our own services begin so, and go on with the service's name.
const PACKAGE: &str = "ticketing.";
/// The option of a method that says what it is in HTTP.
const HTTP: &str = "google.api.http";

/// All calls of all services.
#[derive(Debug)]
pub struct Api {
    /// All that the descriptor set knows.
    pub pool: DescriptorPool,
    /// In the order of the descriptor set's files.
    pub services: Vec<Service>,
}

/// The gRPC service of one of our services.
#[derive(Debug)]
pub struct Service {
    /// Its full name: `ticketing.orders.v1.OrderService`.
    pub name: String,
    /// The service that answers: `orders`.
    pub room: String,
    /// Its calls.
    pub methods: Vec<Method>,
    /// What else the contract says of it.
    pub descriptor: ServiceDescriptor,
}

/// A call.
#[derive(Debug)]
pub struct Method {
    /// Its path in gRPC: `/ticketing.orders.v1.OrderService/GetOrder`.
    pub path: String,
    /// What it is in HTTP, each way; the first is the main one.
    pub bindings: Vec<Binding>,
    /// What else the contract says of it.
    pub descriptor: MethodDescriptor,
}

/// One way of making a call with HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `GET`.
    pub verb: &'static str,
    /// `/api/orders/{id}`.
    pub template: String,
    /// Whether the fields that the template doesn't bind are the body; else they are the query.
    pub body: bool,
}

/// Why a descriptor set tells of no API.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is none.
    #[error("the descriptor set can't be read: {0}")]
    Descriptors(#[from] DescriptorError),
    /// It knows nothing of HTTP.
    #[error("the descriptor set has no {HTTP}")]
    NoHttp,
    /// A call that would have no route.
    #[error("{method}: {problem}")]
    Method {
        /// Its full name.
        method: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Api {
    /// The contracts' own.
    ///
    /// # Errors
    ///
    /// The contracts have a call without HTTP; a test would have told.
    pub fn of_contracts() -> Result<Self, Unreadable> {
        Self::read(contracts::DESCRIPTORS)
    }

    /// The calls of this encoded `FileDescriptorSet`.
    ///
    /// # Errors
    ///
    /// It can't be decoded, or has a call that isn't annotated for HTTP in a form that is known here.
    pub fn read(descriptors: &[u8]) -> Result<Self, Unreadable> {
        let pool = DescriptorPool::decode(descriptors)?;
        let ours = pool.services().filter_map(|service| Some((room(&service)?, service)));
        let services = ours.map(|(room, service)| {
            let methods = service.methods().map(|method| Method::read(&pool, method));
            let methods = methods.collect::<Result<_, _>>()?;
            Ok(Service { name: service.full_name().to_owned(), room, methods, descriptor: service })
        });
        let services = services.collect::<Result<_, Unreadable>>()?;
        Ok(Self { pool, services })
    }

    /// All calls.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.services.iter().flat_map(|service| &service.methods)
    }
}

/// `ticketing.orders.v1` → `orders`.
fn room(service: &ServiceDescriptor) -> Option<String> {
    service.package_name().strip_prefix(PACKAGE)?.split('.').next().map(str::to_owned)
}

impl Method {
    fn read(pool: &DescriptorPool, descriptor: MethodDescriptor) -> Result<Self, Unreadable> {
        let http = pool.get_extension_by_name(HTTP).ok_or(Unreadable::NoHttp)?;
        let wrong = |problem| Unreadable::Method { method: descriptor.full_name().to_owned(), problem };
        let options = descriptor.options();
        if !options.has_extension(&http) {
            return Err(wrong("it has no google.api.http"));
        }
        let rule = options.get_extension(&http);
        let rule = rule.as_message().ok_or_else(|| wrong("google.api.http is no message"))?;
        let more = rule.get_field_by_name("additional_bindings");
        let more = more.as_deref().and_then(Value::as_list).unwrap_or_default();
        let rules = std::iter::once(Some(rule)).chain(more.iter().map(Value::as_message));
        let bindings = rules.map(|rule| rule.and_then(Binding::read)).collect::<Option<_>>();
        Ok(Self {
            path: format!("/{}/{}", descriptor.parent_service().full_name(), descriptor.name()),
            bindings: bindings.ok_or_else(|| wrong("a binding is of no form that is known here"))?,
            descriptor,
        })
    }

    /// Whether it answers with more than one message.
    pub fn streams(&self) -> bool {
        self.descriptor.is_server_streaming()
    }

    /// Whether it only reads, and so may be repeated by anybody: what is GET in HTTP.
    pub fn reads(&self) -> bool {
        self.bindings.first().is_some_and(|binding| binding.verb == "GET")
    }
}

impl Binding {
    fn read(rule: &DynamicMessage) -> Option<Self> {
        const VERBS: [(&str, &str); 5] =
            [("get", "GET"), ("put", "PUT"), ("post", "POST"), ("delete", "DELETE"), ("patch", "PATCH")];
        let (field, verb) = VERBS.into_iter().find(|(field, _)| rule.has_field_by_name(field))?;
        let template = rule.get_field_by_name(field)?.as_str()?.to_owned();
        let body = match rule.get_field_by_name("body")?.as_str()? {
            "" => false,
            "*" => true,
            // One field alone as the body: no call of ours is like that.
            _ => return None,
        };
        Some(Self { verb, template, body })
    }

    /// The fields that the template binds, in their order: each is one segment, or the part of one before a colon.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.template.split('{').skip(1).filter_map(|rest| rest.split('}').next())
    }
}
